import hashlib

from vpog_core.utils.fingerprint import code_of, digest, safe_name, safe_names


def test_a_digest_is_that_of_all_parts_one_after_the_other(tmp_path):
    file = tmp_path / "part"
    file.write_bytes(b"\x00cd")
    assert digest(["a", b"b", file]) == digest([b"ab\x00cd"]) == hashlib.sha256(b"ab\x00cd").hexdigest()


def test_names_become_names_of_files():
    assert safe_name("coffee mug/../2-b_ä") == "coffee_mug____2-b_ä"


def test_names_that_would_be_one_file_are_kept_apart():
    found = safe_names(["a b", "a_b", "mug"])
    assert found["mug"] == "mug"
    assert len(set(found.values())) == 3
    assert all(part.startswith("a_b-") for name, part in found.items() if name != "mug")


def test_code_is_what_it_computes():
    """Comments, docstrings and layout do not change the code; a number does."""
    source = 'LIMIT = 3\n"""The limit."""\n\ndef double(x):\n    """Double x."""\n    return 2 * x\n'
    plain = "LIMIT = 3\ndef double(x):\n    # Twice.\n    return (2*x)\n"
    assert code_of(source) == code_of(plain)
    assert code_of(source) != code_of(source.replace("2 * x", "3 * x"))
    assert code_of("def f(x):\n    '''Nothing else.'''") == code_of("def f(x):\n    '''Or this.'''")
