import hashlib

from vpog_core.utils.fingerprint import digest, safe_name


def test_a_digest_is_that_of_all_parts_one_after_the_other(tmp_path):
    file = tmp_path / "part"
    file.write_bytes(b"\x00cd")
    assert digest(["a", b"b", file]) == digest([b"ab\x00cd"]) == hashlib.sha256(b"ab\x00cd").hexdigest()


def test_names_become_names_of_files():
    assert safe_name("coffee mug/../2-b_ä") == "coffee_mug____2-b_ä"
