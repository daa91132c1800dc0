"""Test the networks as ONNX files, and onnxruntime as an engine: the results are the same as torch's."""

import json
import pickle

import pytest
import torch

from vpog_core.inference import networks
from vpog_core.inference.networks import Networks
from vpog_core.inference.onnx_engine import OnnxModel, OnnxRefiner
from vpog_core.models import onnx_export
from vpog_core.models.onnx_export import MANIFEST, export_onnx, graphs_of, open_session
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        # float32 sums in another order.
        torch.testing.assert_close(torch.as_tensor(a), b, atol=1e-4, rtol=1e-4)


def test_files_have_the_shapes_that_the_manifest_tells(onnx_folder, small_config):
    manifest = json.loads((onnx_folder / MANIFEST).read_text())
    assert sorted(manifest["networks"]) == ["encode", "flow", "match", "refiner", "retrieve"]
    assert manifest["made_of"] == {"network": "small"}
    size = small_config.image_size
    assert manifest["networks"]["encode"]["inputs"] == [
        {"name": "images", "shape": [1, 3, size, size], "type": "uint8"}
    ]
    for network in manifest["networks"].values():
        session = open_session(onnx_folder / network["file"])
        for told, there in (
            (network["inputs"], session.get_inputs()),
            (network["outputs"], session.get_outputs()),
        ):
            assert [(one["name"], one["shape"]) for one in told] == [(one.name, one.shape) for one in there]


@torch.no_grad()
def test_an_engine_answers_like_torch_for_any_number_of_crops(torch_networks, onnx_folder):
    model, refiner = torch_networks
    engine = OnnxModel(model, onnx_folder)
    torch.manual_seed(3)
    size = model.config.image_size
    images = torch.randint(0, 256, (10, 3, size, size), dtype=torch.uint8)
    encoded, expected = engine.encode(images), model.encode(images)
    assert_same(encoded.tensors(), expected.tensors())
    templates = expected[2:].map(lambda v: v.unflatten(0, (2, 4)))
    directions = torch.nn.functional.normalize(torch.randn(2, 4, 3), dim=-1)
    found = engine.match(expected[:2], templates, directions)
    matches = model.match(expected[:2], templates, directions)
    assert_same(vars(found).values(), vars(matches).values())
    index = torch.randint(0, model.config.num_patches, (2, 4, model.config.num_patches))
    flow = model.flow(matches, index)
    assert_same(vars(engine.flow(matches, index)).values(), (flow.flow, flow.confidence))
    shape = 3, 3, refiner.config.image_size, refiner.config.image_size
    image, render = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2))
    pairs = image, render, torch.randn(shape), torch.rand(3, *shape[2:]) < 0.5
    assert_same(vars(OnnxRefiner(refiner, onnx_folder)(*pairs)).values(), vars(refiner(*pairs)).values())


def test_a_worker_process_opens_the_files_itself(torch_networks, onnx_folder):
    model = torch_networks[0]
    images = torch.randint(0, 256, (1, 3, model.config.image_size, model.config.image_size)).byte()
    sent = pickle.loads(pickle.dumps(OnnxModel(model, onnx_folder)))
    assert_same(sent.encode(images).tensors(), model.encode(images).tensors())


def test_a_file_that_computes_something_else_is_refused(torch_networks, onnx_folder):
    other = VPOGModel(torch_networks[0].config)
    with torch.no_grad():
        other.retrieval_head.log_scale += 1
    graph = graphs_of(other, None, 1, 4)["retrieve"]
    with pytest.raises(VPOGError, match=r"retrieve\.onnx' computes another 'logits' than torch"):
        onnx_export._checked(onnx_folder / "retrieve.onnx", graph)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "match.onnx").write_bytes(b"no graph")
    with pytest.raises(VPOGError, match=r"match\.onnx' cannot be opened in onnxruntime .*export it again"):
        open_session(tmp_path / "match.onnx")


def test_a_missing_package_is_named(monkeypatch, tmp_path, torch_networks):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(VPOGError, match="'onnx' is not installed: pip install onnx onnxruntime onnxscript"):
        export_onnx(*torch_networks, tmp_path, {})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"engine": "tensorrt"}, "'tensorrt' is not known: use one of torch, onnxruntime"),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "computes in float32: set precision to 'auto'"),
        ({"engine": "onnxruntime", "device": "cuda"}, "runs on a CPU and the device is 'cuda'"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(asked, sentence, monkeypatch):
    monkeypatch.setattr(networks, "choose_device", lambda device: device)
    with pytest.raises(VPOGError, match=sentence):
        Networks.load(**asked)


def test_an_engine_finds_its_files_in_the_cache(torch_networks, copied_onnx, tmp_path):
    keys = {"network": "a", "refiner": "b"}
    for _ in range(2):
        networks.onnx_networks(*torch_networks, keys, tmp_path)
    assert copied_onnx == [tmp_path / "onnx-a-b"]
