import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vpog_core.models.retrieval_head import RetrievalHead, placement_matrices, placements
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import viewpoint_directions
from vpog_core.synthetic.objects import make_object

GRID = 7


def number_of(scale, x, y) -> int:
    """Return the number of a placement; shifts in patches."""
    (found,) = (
        n
        for n, p in enumerate(placements())
        if p.scale == scale and p.x * GRID == pytest.approx(x) and p.y * GRID == pytest.approx(y)
    )
    return found


def test_in_place_every_patch_lies_on_its_own():
    assert torch.equal(placement_matrices(GRID)[number_of(1.0, 0, 0)], torch.eye(GRID * GRID))


def test_a_shift_moves_every_patch_and_loses_what_lies_beside_the_template():
    matrix = placement_matrices(GRID)[number_of(1.0, 1, 0)].view(GRID, GRID, GRID, GRID)
    for row in range(GRID):
        for column in range(GRID - 1):
            assert matrix[row, column + 1, row, column] == 1
        assert not matrix[:, :, row, GRID - 1].any()


def test_a_smaller_scale_takes_patches_towards_the_middle():
    """Three patches from it, a patch of a crop at scale 0.6 lies 1.8 from the template's middle patch."""
    matrix = placement_matrices(GRID)[number_of(0.6, 0, 0)].view(GRID, GRID, GRID, GRID)
    torch.testing.assert_close(matrix[3, :, 3, 6], torch.tensor([0, 0, 0, 0, 0.2, 0.8, 0]))
    torch.testing.assert_close(matrix[:, 3, 0, 3], torch.tensor([0, 0.8, 0.2, 0, 0, 0, 0]))


@pytest.mark.parametrize("grid", [3, 7, 14])
def test_no_patch_counts_more_than_once(grid):
    matrices = placement_matrices(grid)
    assert matrices.shape == (len(placements()), grid**2, grid**2)
    assert (matrices.sum(dim=1) <= 1 + 1e-5).all()
    assert (matrices.sum(dim=1).amax(dim=1) > 0.99).all()


@torch.no_grad()
@pytest.mark.parametrize(("scale", "x", "y"), [(1.0, 1, 0), (1.0, -1, -1), (0.8, 0, 0.75), (0.6, -1, 2)])
def test_a_part_of_a_template_finds_it_and_where_it_lies(scale, x, y):
    """The crop shows what lies under a placement; compared in place, another template may look as alike."""
    torch.manual_seed(0)
    head, number = RetrievalHead(16, 32, GRID), number_of(scale, x, y)
    coarse = F.interpolate(torch.randn(20, 32, 3, 3), GRID, mode="bilinear", align_corners=True)
    templates = F.normalize(coarse.flatten(2).transpose(1, 2), dim=-1)
    under = head.overlays[number]
    seen = under.sum(dim=0) > 0.99
    crop = F.normalize(torch.einsum("ji,jc->ic", under, templates[13]), dim=-1) * seen[:, None]
    logits = head.placement_logits(crop.flatten()[None], templates.flatten(1))[0]
    best, template = divmod(int(logits.argmax()), 20)
    assert template == 13
    # To a step of scale and half a patch: patches that lie between two are less alike than those on one.
    found = placements()[best]
    assert abs(found.scale - scale) < 0.21
    assert max(abs(found.x * GRID - x), abs(found.y * GRID - y)) <= 0.5
    assert head.logits(crop.flatten()[None], templates.flatten(1)).argmax() == 13


@torch.no_grad()
def test_patches_without_weight_have_no_say():
    torch.manual_seed(0)
    head = RetrievalHead(16, 8, GRID)
    crops, templates = torch.randn(2, GRID**2, 8), torch.randn(5, GRID**2 * 8)
    crops[1, :20] = crops[0, :20]
    crops[:, 20:] = 0
    logits = head.logits(crops.flatten(1), templates)
    torch.testing.assert_close(logits[0], logits[1])


@torch.no_grad()
def test_a_crops_weights_are_fractions_and_a_templates_are_gates():
    torch.manual_seed(0)
    head, tokens = RetrievalHead(16, 8, GRID), torch.randn(3, GRID**2, 16)
    crop, template = (v.unflatten(1, (-1, 8)) for v in (head(tokens), head.of_templates(tokens)))
    torch.testing.assert_close(crop.norm(dim=-1).sum(dim=1), torch.ones(3))
    assert ((template.norm(dim=-1) > 0.5) & (template.norm(dim=-1) < 1)).all()
    # A similarity is a weighted mean of cosines: a logit is no larger than the scale.
    assert head.logits(head(tokens), head.of_templates(tokens)).abs().max() < torch.e**3


@torch.no_grad()
def test_groups_of_queries_are_compared_with_their_own_templates():
    torch.manual_seed(0)
    head = RetrievalHead(16, 8, 3)
    queries, templates = (
        head(torch.randn(8, 9, 16)).view(2, 4, -1),
        head.of_templates(torch.randn(10, 9, 16)).view(2, 5, -1),
    )
    together = head.logits(queries, templates)
    assert together.shape == (2, 4, 5)
    for n in range(2):
        torch.testing.assert_close(together[n], head.logits(queries[n], templates[n]))


def test_steps_teach_it_to_find_the_views_of_crops_that_show_a_part():
    """Tokens are the colours of a real mesh's renders; crops are parts of them, shifted and magnified."""
    torch.manual_seed(0)
    mesh = make_object(900_003, vertices=3000)
    renderer, rng = Renderer(mesh), np.random.default_rng(0)
    cameras = [template_camera(mesh, d, 56) for d in viewpoint_directions()[::5]]
    views = torch.stack(
        [torch.from_numpy(renderer.render(T, K, (56, 56)).rgb).permute(2, 0, 1) / 255 for K, T in cameras]
    )

    def tokens(images):
        return F.unfold(images, 8, stride=8).transpose(1, 2)

    def parts(count):
        """Return windows of 70 % of a view's side, magnified to its size, and the numbers of the views."""
        which = rng.integers(0, len(views), count)
        corner = rng.integers(4, 14, (count, 2))
        windows = [views[w, :, y : y + 40, x : x + 40] for w, (y, x) in zip(which, corner, strict=True)]
        return tokens(F.interpolate(torch.stack(windows), 56, mode="bilinear")), torch.from_numpy(which)

    head, (test, truth) = RetrievalHead(192, 16, GRID), parts(60)

    def logits(crops):
        return head.logits(head(crops), head.of_templates(tokens(views)))

    def recall():
        with torch.no_grad():
            return (logits(test).argmax(dim=1) == truth).float().mean().item()

    before, optimizer = recall(), torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(25):
        crops, which = parts(16)
        loss = F.cross_entropy(logits(crops), which)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Chance is 3 %.
    assert recall() > max(0.5, before + 0.1)
