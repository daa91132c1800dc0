"""Test the command line of recorded hypotheses; what is recorded is tested in test/evaluation."""

import pytest

from vpog_core.cli import main
from vpog_core.evaluation import hypothesis_recorder
from vpog_core.evaluation.hypothesis_recorder import Recorded


def test_the_last_line_says_how_many_are_correct_and_where_they_are(tmp_path, monkeypatch, capsys):
    found = {3: Recorded(3, 20, 2, 4), 4: Recorded(4, problem="It is broken."), 5: Recorded(5, 30, 3, 6)}

    class Recorder:
        def __init__(self, config) -> None:
            self.config = config

        def run(self, number: int) -> Recorded:
            return found[number]

    monkeypatch.setattr(hypothesis_recorder, "HypothesisRecorder", Recorder)
    output = tmp_path / "new" / "out"
    output.mkdir(parents=True)
    (output / "object_00002.hypotheses.npz").write_bytes(b"recorded before")
    assert main(["record-hypotheses", "--output", str(output), "--objects", "4", "--first", "2"]) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"50 hypotheses of 5 detections, 20% correct, of 2 objects (1 were recorded before): {output}\n"
    )
    assert "vpog: object 4 is left out. It is broken.\n" in said.err


def test_nothing_is_left_to_record(tmp_path, capsys):
    (tmp_path / "object_00000.hypotheses.npz").write_bytes(b"recorded before")
    assert main(["record-hypotheses", "--output", str(tmp_path), "--objects", "1"]) == 0
    assert capsys.readouterr().out.startswith("0 hypotheses of 0 detections, of 0 objects (1 ")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--meshes", "none"], "'none'"),
        (["--photos", "none"], "'none'"),
        (["--meshes", "."], "--meshes"),
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["--refiner-weights", "none.safetensors"], "none.safetensors"),
        (["--objects", "90000"], "ask for fewer"),
    ],
)
def test_unusable_input_is_one_sentence(extra, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record-hypotheses", "--output", "out", "--objects", "1", *extra]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said


def test_objects_of_which_none_can_be_used_are_an_error(tmp_path, capsys):
    (tmp_path / "broken.ply").write_bytes(b"ply")
    words = ["--meshes", str(tmp_path), "--objects", "1", "--first", "1", "--device", "cpu"]
    assert main(["record-hypotheses", "--output", str(tmp_path / "out"), *words]) == 2
    left_out, end = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vpog: ")]
    assert left_out.startswith("vpog: object 1 is left out. ")
    assert "broken.ply" in left_out
    assert end == "vpog: Nothing was recorded of 1 objects: see above what is wrong with each."


def test_an_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert main(["record-hypotheses", "--output", str(tmp_path / "out")]) == 2
    assert "choose another" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [["--objects", "0"], ["--first", "-1"], ["--workers", "0"], []])
def test_numbers_out_of_range_and_a_missing_output_are_refused(extra, capsys):
    output = ["--output", "out"] if extra else []
    with pytest.raises(SystemExit) as ended:
        main(["record-hypotheses", *output, *extra])
    assert ended.value.code == 2
    assert (extra or ["--output"])[0] in capsys.readouterr().err
