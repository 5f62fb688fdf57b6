import numpy as np
import pytest

from longtail.analysis.attention import basis_of, feature_rank, rank_in


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def centred_with_axes(scales, seed=0):
    """Rows +-s_j v_j: mean exactly 0 (to rounding), right singular vectors v_j in the order of the scales."""
    v = orthogonal(len(scales), seed)
    rows = np.asarray(scales)[:, None] * v.T
    return np.concatenate([rows, -rows]), v


def slow_rank(f_all, f_min, centre_min, tolerance=0.01):
    """Project, reconstruct, compare, k = 1, 2, ... as the paper words it."""
    mean = f_all.mean(0)
    v = np.linalg.svd(f_all - mean)[2].T
    f = f_min - mean if centre_min else f_min
    for k in range(1, f.shape[1] + 1):
        recon = f @ v[:, :k] @ v[:, :k].T
        if np.linalg.norm(f - recon) ** 2 / np.linalg.norm(f) ** 2 <= tolerance:
            return k
    raise AssertionError("complete basis leaves a residual")


@pytest.mark.parametrize("centre_min", [True, False])
def test_equals_the_loop_over_k(centre_min):
    rng = np.random.default_rng(3)
    f_all = rng.normal(size=(60, 12)) * np.geomspace(10, 0.1, 12) @ orthogonal(12) + rng.normal(size=12)
    f_min = f_all[40:]
    assert feature_rank(f_all, f_min, centre_min) == slow_rank(f_all, f_min, centre_min)
    assert feature_rank(f_all.astype(np.float32), f_min.astype(np.float32), centre_min) > 1


@pytest.mark.parametrize("k", [1, 3, 8])
def test_known_rank(k):
    f_all, v = centred_with_axes(np.arange(10.0, 0.0, -1.0))
    f_min = np.random.default_rng(k).normal(size=(50, k)) @ v[:, :k].T
    assert feature_rank(f_all, f_min, True) == k


def test_rank_counts_in_the_order_of_all_classes():
    """Tail features on one direction, the 7th of all classes': seven directions are needed, not one."""
    f_all, v = centred_with_axes(np.arange(10.0, 0.0, -1.0))
    assert feature_rank(f_all, np.outer([1.0, -2.0, 3.0], v[:, 6]), True) == 7


def test_tolerance_is_one_percent_of_the_squared_norm():
    f_all, v = centred_with_axes([5.0, 4.0, 3.0, 2.0])
    for share, expected in ((0.0099, 1), (0.0101, 2)):  # energy outside the first direction; the norm itself is ~ .1
        f_min = np.stack([np.sqrt(1 - share) * v[:, 0], np.zeros(4), np.sqrt(share) * v[:, 1]])
        assert feature_rank(f_all, f_min, False) == expected
    assert feature_rank(f_all, f_min, False, tolerance=0.02) == 1


def test_centring_of_the_tail():
    """All classes vary along v0 and v1 around a mean along v3. The tail varies along v0 only: centred, one direction is
    enough; uncentred, the mean itself must be reconstructed, which takes up to the 4th."""
    axes, v = centred_with_axes([5.0, 4.0, 3.0, 2.0])
    f_all = axes + 10 * v[:, 3]
    f_min = 10 * v[:, 3] + np.outer([1.0, -1.0], v[:, 0])
    assert feature_rank(f_all, f_min, True) == 1
    assert feature_rank(f_all, f_min, False) == 4
    basis = basis_of(f_all)
    np.testing.assert_allclose(basis.mean, 10 * v[:, 3], atol=1e-12)
    assert [rank_in(basis, f_min, c) for c in (True, False)] == [1, 4]


def test_fewer_images_than_dimensions():
    f_all, v = centred_with_axes([3.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    few = f_all[[0, 1, 6, 7]]  # spans v0 and v1
    assert feature_rank(few, few, True) == 2
    assert feature_rank(few, few + v[:, 4], False) > 2  # a direction no image of f_all has


def test_float64():
    """Singular values down to 1e-12 of the largest keep their order: float32 would mix their directions."""
    axes, v = centred_with_axes(np.geomspace(1, 1e-12, 6))
    f_all = orthogonal(6, 1) @ axes[:6]  # no row shows a small direction alone
    f_all = np.concatenate([f_all, -f_all])
    assert [feature_rank(f_all, v[:, j][None], True) for j in range(6)] == [1, 2, 3, 4, 5, 6]


def test_no_energy_needs_no_direction():
    f_all, _ = centred_with_axes([2.0, 1.0])
    assert feature_rank(f_all, np.zeros((3, 2)), False) == 0
