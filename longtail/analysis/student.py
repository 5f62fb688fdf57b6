"""What a trained student shows besides its accuracy: attention distance, feature rank, rollout (METHODS 4.1-4.3).

All on test images under the evaluation transform; attention distance on training images too (P0 Fig. S.3). Tail
classes are those of the author rule (class index).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from longtail.analysis.attention import (
    Basis,
    attention_probabilities,
    basis_of,
    block_tokens,
    mean_attention_distance,
    rank_in,
    rollout_rows,
    scale_to_peak,
)
from longtail.base.errors import UserError
from longtail.data.long_tail import LongTail
from longtail.models.build import NetworkConfig, build_network, network_config
from longtail.models.vit import ModelConfig
from longtail.training.student_run import read_run
from longtail.views.eval_views import eval_batch, eval_pixels

TOKENS = ("cls", "dist")
BATCH = 64  # images; the attention of ViT-B's 12 blocks takes 23 MB an image
TAIL = 2  # in LongTail.author_groups


@dataclass(frozen=True)
class Student:
    """One seed's trained model and the view it is evaluated on."""

    model: nn.Module  # eval mode, float32
    shape: NetworkConfig
    eval_resize: int  # shorter side before the centre crop to shape.image_size
    normalization: str
    device: torch.device

    @property
    def attends(self) -> bool:
        """Is it a ViT? A CNN has neither attention nor tokens to analyse."""
        return isinstance(self.shape, ModelConfig)

    @property
    def special(self) -> int:
        """Tokens in front of the patches: 1 CLS, or 2 CLS and DIST."""
        return self.model.num_prefix_tokens

    def batches(self, images: np.ndarray) -> Iterator[Tensor]:
        """Evaluation views of uint8 [n, H, W, 3], normalised, on the device, BATCH at a time."""
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield eval_batch(part, self.shape.image_size, self.eval_resize, self.normalization).to(self.device)


def load_student(folder: Path, data: LongTail, device: torch.device) -> Student:
    """The model in one seed's result folder (last epoch), checked against the dataset.

    Raises UserError where a file is missing or cut short, or the run is of another dataset or class order.
    """
    run = read_run(folder, data)
    try:
        shape = network_config(run.config["model"], f"{folder / 'config.yaml'}: model")
        resize, normalization = int(run.config["train"]["eval_resize"]), str(run.config["views"]["normalization"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: config.yaml lacks {error}; train the entry again") from None
    head = "linear" if "head.bias" in run.state else "normed"  # NormedLinear has none (METHODS trap 25)
    model = build_network(shape, data.num_classes, "dist_token" in run.state, head)
    run.put_into(model)
    return Student(model.to(device).eval().requires_grad_(False), shape, resize, normalization, device)


def tail_test(data: LongTail) -> np.ndarray:
    """Positions of the tail classes' test images, int64. Raises UserError when there are none."""
    positions = np.flatnonzero(data.author_groups[data.test_labels] == TAIL)
    if not len(positions):
        raise UserError(f"dataset {data.name}: no test image of a tail class (cuts {list(data.cuts)})")
    return positions


def tail_train(data: LongTail) -> np.ndarray:
    """Positions of the tail classes' training images, int64 (P0 Fig. S.3); every class has some."""
    return np.flatnonzero(data.author_groups[data.train_labels] == TAIL)


def attention_distances(student: Student, images: np.ndarray) -> np.ndarray:
    """Mean attention distance in pixels of every block's heads, ascending within a block. float64 [L, h]."""
    total = torch.zeros(student.shape.depth, student.shape.heads, dtype=torch.float64, device=student.device)
    for x in student.batches(images):
        maps = attention_probabilities(student.model, x)
        shape = student.shape.grid, student.shape.patch_size, student.special
        total += len(x) * torch.stack([mean_attention_distance(m, *shape) for m in maps])
    return (total / len(images)).sort(-1).values.cpu().numpy()


def tokens_of_blocks(student: Student, images: np.ndarray) -> np.ndarray:
    """The special tokens after each block, float32 [L, n, T, d]."""
    return torch.cat([block_tokens(student.model, x).cpu() for x in student.batches(images)], 1).numpy()


def basis_at(features: np.ndarray) -> tuple[Basis, np.ndarray]:
    """The basis of one token's features after one block [n, d], and these in float64."""
    features = features.astype(np.float64)
    return basis_of(features), features


def feature_ranks(student: Student, images: np.ndarray, tail: np.ndarray) -> list[tuple[str, int, str, int]]:
    """(token, block, centring, rank) of every token and block; tail: positions in images of F_min's rows.

    centring: `both` subtracts the all-class mean from F_min too, `all_only` leaves F_min as it is (METHODS 4.3).
    """
    tokens = tokens_of_blocks(student, images)
    rows = []
    for t, token in enumerate(TOKENS[: student.special]):
        for block in range(student.shape.depth):
            basis, features = basis_at(tokens[block, :, t])
            for centring in ("both", "all_only"):
                rows.append((token, block, centring, rank_in(basis, features[tail], centring == "both")))
    return rows


def spread(labels: np.ndarray, positions: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` of the positions, the classes in turn: first image of each, then the second, ..."""
    turn = np.zeros(len(positions), np.int64)
    for label in np.unique(labels[positions]):
        mine = labels[positions] == label
        turn[mine] = np.arange(mine.sum())
    return positions[np.lexsort((labels[positions], turn))[:count]]


def rollouts(student: Student, images: np.ndarray) -> dict[str, np.ndarray]:
    """Rollout maps of a few images, as the arrays of rollout.npz.

    images: uint8 [K, S, S, 3], what the model saw; maps: float32 [K, T, g, g], each over its maximum; average: float32
    [K, g, g], the tokens' mean before that scaling (P0 Fig. S.2); tokens: names of the T maps.
    """
    rows = torch.cat(
        [rollout_rows(attention_probabilities(student.model, x), student.special) for x in student.batches(images)]
    )
    views = eval_pixels(images, student.shape.image_size, student.eval_resize)
    return {
        "images": views.permute(0, 2, 3, 1).contiguous().numpy(),
        "maps": scale_to_peak(rows).float().cpu().numpy(),
        "average": scale_to_peak(rows.mean(1)).float().cpu().numpy(),
        "tokens": np.array(TOKENS[: student.special]),
    }
