import pytest

from vpog_core.evaluation.runner import CODE_FOLDERS

grimp = pytest.importorskip("grimp")  # of import-linter

NO_RESULTS = {"cancellation", "setting", "threads", "types", "utils"}
"""Packages that hold values, files and processes, and compute nothing."""


def test_stored_frames_depend_on_all_the_code_that_computes_them():
    graph = grimp.build_graph("vpog_core", cache_dir=None)
    rooms = {name.split(".")[1] for name in graph.find_upstream_modules("vpog_core.evaluation.frame_run")}
    assert rooms - NO_RESULTS == set(CODE_FOLDERS)
