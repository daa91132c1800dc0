"""Test that hands have a hand's size and many skin tones, and are the same for the same seed."""

import numpy as np

from vpog_core.synthetic.hands import make_hand


def test_a_hand_by_seed():
    one, again, other = make_hand(3), make_hand(3), make_hand(4)
    np.testing.assert_array_equal(one.vertices, again.vertices)
    np.testing.assert_array_equal(one.vertex_colors, again.vertex_colors)
    assert not np.array_equal(one.vertex_colors, other.vertex_colors)
    for seed in range(6):
        hand = make_hand(seed)
        assert 0.25 < hand.diameter < 0.45  # with a part of the forearm
        assert np.isfinite(hand.vertices).all()
        assert hand.faces.max() < len(hand.vertices)
    tones = [make_hand(seed).vertex_colors.mean() for seed in range(10)]
    assert np.ptp(tones) > 40
