import re

from vpog_core.training.synthesis.sample_statistics import sample_statistics


def test_all_degrees_of_occlusion_are_well_covered(dataset):
    """Each band from 30 % visible on has its part, boxes differ from the whole, and crops are coarse."""
    visible, boxes, source = sample_statistics(dataset, 300)
    parts = [int(n) for n in re.findall(r": (\d+) %", visible)]
    assert len(parts) == 5
    assert min(parts) >= 5
    assert 30 < sum(parts[:3]) < 75
    assert sum(int(n) for n in re.findall(r": (\d+) %", boxes)[:3]) > 15
    # Crops of 40 to 100 pixels in the camera's image are common.
    assert 25 < sum(int(n) for n in re.findall(r": (\d+) %", source)[:3]) < 60
