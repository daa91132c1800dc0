"""Test that a dumped frame gives the same poses again, and that nothing outside its folder is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vpog_core.cli import main
from vpog_core.frame_dump.read import make_estimator, read_dump
from vpog_core.frame_dump.recorder import RecordedEstimator
from vpog_core.frame_dump.write import FORMAT, MAX_DUMPS, write_dump
from vpog_core.geometry.se3 import rotation_x, transform
from vpog_core.inference.constraints import PoseConstraint
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import DEFAULT_REFINER, Networks
from vpog_core.inference.query import Prior
from vpog_core.models.checkpoint import save_weights, weights_key
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.mesh import save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection, VPOGError

K = np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def weights(tmp_path_factory, small_config) -> Path:
    """Return untrained weights: the tests are of finding the same poses again."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(VPOGModel(small_config), path)
    return path


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, weights) -> RecordedEstimator:
    """Return an estimator that has answered one frame: by a box and a prior, and by a mask."""
    folder, mesh = tmp_path_factory.mktemp("objects"), make_object(900_009, vertices=3000)
    save_mesh(mesh, folder / "carton.ply")
    (folder / "objects.yaml").write_text(
        'objects:\n  "../box": {mesh: carton.ply, symmetry: {discrete: [{axis: z, order: 2}]}}\n'
    )
    estimator = RecordedEstimator(PoseEstimator(folder, weights, device="cpu", samples=2))
    T = transform(rotation_x(2.0), [0.0, 0.0, 4.0 * mesh.diameter])
    T[:3, 3] -= T[:3, :3] @ mesh.center
    rendered = Renderer(mesh).render(T, K, (120, 160), background=np.full((120, 160, 3), 110, np.uint8))
    rows, columns = np.nonzero(rendered.mask)
    box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float64)
    detections = [Detection("../box", box, 0.7), Detection("../box", box, 0.5, rendered.mask, 1)]
    estimator.context = {"stamp": "12.000000034"}
    camera = Camera(K, 160, 120, [0.01, 0, 0, 0, 0])
    # Wide enough for what an untrained network finds.
    known = PoseConstraint((0, -1, 0), 0.1, (0, 0, 1), tilt_tolerance=4.0)
    priors = [Prior(T, np.inf), None]
    estimator.estimate(rendered.rgb, camera, detections, priors, {"../box": known})
    return estimator


@pytest.fixture(scope="module")
def written(recorded, weights, tmp_path_factory) -> Path:
    keys = {"network": weights_key(weights), "refiner": weights_key(DEFAULT_REFINER)}
    folder = tmp_path_factory.mktemp("dumps")
    return write_dump(folder, "frame", recorded.last, recorded, keys, {"min_score": 0.05})


@pytest.fixture
def dump(written, tmp_path) -> Path:
    """Return a copy of the dump, to be changed."""
    return shutil.copytree(written, tmp_path / "dump")


def changed(dump: Path, **entries) -> str:
    """Change entries of a dump; returns the sentence it is refused with."""
    content = json.loads((dump / "dump.json").read_text())
    (dump / "dump.json").write_text(json.dumps(content | entries))
    with pytest.raises(VPOGError) as error:
        read_dump(dump)
    return str(error.value)


def test_what_was_given_is_read_again(written, recorded):
    dump, call = read_dump(written), recorded.last
    np.testing.assert_array_equal(dump.image, call.image)
    assert dump.camera.K.tolist() == K.tolist()
    assert dump.camera.distortion.tolist() == [0.01, 0, 0, 0, 0]
    first, second = dump.detections
    assert (first.class_id, first.mask, second.instance) == ("../box", None, 1)
    np.testing.assert_array_equal(second.mask, call.detections[1].mask)
    np.testing.assert_array_equal(dump.priors[0].T_cam_obj, call.priors[0].T_cam_obj)
    assert (dump.priors[0].accept_score, dump.priors[1]) == (np.inf, None)
    known, read = call.constraints["../box"], dump.constraints["../box"]
    np.testing.assert_array_equal([read.normal, read.up], [known.normal, known.up])
    assert (read.offset, read.height, read.tilt_tolerance) == (0.1, None, 4.0)
    assert dump.options == recorded.options
    assert len(dump.library.symmetry("../box").discrete) == 2
    mesh, original = dump.library.mesh("../box"), recorded.library.mesh("../box")
    np.testing.assert_array_equal(mesh.vertices, original.vertices)


def test_constraints_of_objects_that_were_not_detected_are_passed_over(dump):
    content = json.loads((dump / "dump.json").read_text())
    content["constraints"]["never seen"] = content["constraints"]["../box"]
    (dump / "dump.json").write_text(json.dumps(content))
    assert list(read_dump(dump).constraints) == ["../box"]


def test_the_same_poses_are_found(written, weights, tmp_path, capsys):
    command = ["estimate", "--from", str(written), "--weights", str(weights), "--device", "cpu", "--json"]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [pose["instance"] for pose in found] == [0, 1]
    for pose in found:
        # Other numbers of threads add up in another order.
        assert pose["from_dump"]["metres"] < 1e-4
        assert pose["from_dump"]["radians"] < 1e-3
    assert (tmp_path / "out" / "overlay.png").is_file()


def test_the_cache_folder_that_is_given_is_used(written, weights, tmp_path):
    command = ["estimate", "--from", str(written), "--weights", str(weights), "--device", "cpu"]
    command += ["--cache-dir", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert list((tmp_path / "cache").glob("*.safetensors"))


def test_networks_compute_as_they_did(dump, recorded, weights, tmp_path):
    networks = Networks.load(weights, device="cpu", precision="bfloat16")
    in_bfloat16 = RecordedEstimator(PoseEstimator(recorded.library, networks))
    call = recorded.last
    in_bfloat16.estimate(call.image, call.camera, call.detections)
    keys = {"network": weights_key(weights), "refiner": weights_key(DEFAULT_REFINER)}
    folder = write_dump(tmp_path / "dumps", "frame", in_bfloat16.last, in_bfloat16, keys, {})
    again = make_estimator(read_dump(folder), weights, device="cpu").networks
    assert (again.precision, again.engine) == ("bfloat16", "torch")
    # Dumps of earlier versions say nothing of it, and are read.
    content = json.loads((dump / "dump.json").read_text())
    for name in ("precision", "engine"):
        del content[name]
    (dump / "dump.json").write_text(json.dumps(content))
    earlier = read_dump(dump)
    assert (earlier.precision, earlier.engine) == ("auto", "torch")


def test_the_engine_of_a_dump_is_used(dump, weights, copied_onnx):
    content = json.loads((dump / "dump.json").read_text())
    content |= {"precision": "float32", "engine": "onnxruntime"}
    (dump / "dump.json").write_text(json.dumps(content))
    assert make_estimator(read_dump(dump), weights).networks.engine == "onnxruntime"
    assert copied_onnx


def test_other_weights_are_refused(written):
    with pytest.raises(VPOGError, match=r"other weights of the network .* with --weights"):
        make_estimator(read_dump(written), device="cpu")


def test_dumps_have_names_of_their_own_and_are_whole(written, recorded):
    keys = {"network": "1", "refiner": "2"}
    second = write_dump(written.parent, "frame", recorded.last, recorded, keys, {})
    assert sorted(path.name for path in written.parent.iterdir()) == ["frame", "frame_2"]
    shutil.rmtree(second)
    assert {path.name for path in written.iterdir()} == {
        "dump.json", "image.png", "mask_1.png", "object_0.npz",
    }  # fmt: skip


def test_a_full_folder_and_one_that_cannot_be_made_are_refused(recorded, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(VPOGError, match="set dump_dir to a folder"):
        write_dump(tmp_path / "file" / "dumps", "frame", recorded.last, recorded, {}, {})
    for number in range(MAX_DUMPS):
        (tmp_path / "full" / str(number)).mkdir(parents=True)
    with pytest.raises(VPOGError, match="delete those not needed"):
        write_dump(tmp_path / "full", "frame", recorded.last, recorded, {}, {})


def test_links_out_of_the_folder_are_refused(dump, tmp_path):
    for name in ("image.png", "mask_1.png", "object_0.npz", "dump.json"):
        (tmp_path / name).write_bytes((dump / name).read_bytes())
        (dump / name).unlink()
        (dump / name).symlink_to(tmp_path / name)
        with pytest.raises(VPOGError, match="link"):
            read_dump(dump)
        (dump / name).unlink()
        shutil.copy(tmp_path / name, dump / name)


def test_pickles_are_not_read(dump):
    evil = np.empty(1, object)
    evil[0] = print
    np.savez(dump / "object_0.npz", vertices=evil, faces=np.zeros((1, 3), np.int32))
    with pytest.raises(VPOGError, match="broken"):
        read_dump(dump)


def test_broken_dumps_are_refused(dump, tmp_path):
    with pytest.raises(VPOGError, match="is no dump"):
        read_dump(tmp_path)
    assert "is of format 99" in changed(dump, format=99)
    assert "is broken" in changed(dump, format=FORMAT, camera={"K": []})
    assert "is broken" in changed(dump, options={"warp": 9})
    (dump / "dump.json").write_text("[")
    with pytest.raises(VPOGError, match="is broken"):
        read_dump(dump)


def test_a_dump_with_fewer_estimates_than_detections_is_refused(dump):
    content = json.loads((dump / "dump.json").read_text())
    assert "2 detections, 2 priors, 1 estimates" in changed(dump, estimates=content["estimates"][:1])
    assert "2 detections, 0 priors" in changed(dump, estimates=content["estimates"], priors=[])


def test_from_takes_no_other_inputs(written, capsys):
    with pytest.raises(SystemExit):
        main(["estimate", "--from", str(written), "--image", "frame.png"])
    assert "not allowed with --from, which has its own: --image" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["estimate", "--image", "frame.png"])
    assert "required: --camera, --object, --box, --mask or --detections" in capsys.readouterr().err
