"""Names and shapes of the official checkpoints, written out: facts read off the published model files.

models/resnet_cifar.py of Saddle-LongTail and LDAM-DRW; moco/builder.py, teacher_models/resnet_cifar_paco.py and
deit_models/ of DeiT-LT; models/ of LiVT and models_*.py of MAE; METHODS 2.1, 2.6, 3.2. Shapes as state_dict() gives
them.
"""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def batch_norm(name: str, width: int) -> Shapes:
    return {
        f"{name}.weight": (width,),
        f"{name}.bias": (width,),
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }


def cifar_trunk(blocks: int = 5) -> Shapes:
    """ResNet-32 for five blocks a stage: widths 16, 32, 64; shortcuts without parameters."""
    shapes: Shapes = {"conv1.weight": (16, 3, 3, 3), **batch_norm("bn1", 16)}
    for stage, (before, width) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (width, width if block else before, 3, 3)}
            shapes |= batch_norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3)}
            shapes |= batch_norm(f"{name}.bn2", width)
    return shapes


def saddle(classes: int, normed: bool, blocks: int = 5) -> Shapes:
    """Saddle-LongTail and LDAM-DRW: `linear`, transposed and without bias where normed."""
    if normed:
        return cifar_trunk(blocks) | {"linear.weight": (64, classes)}
    return cifar_trunk(blocks) | {"linear.weight": (classes, 64), "linear.bias": (classes,)}


def paco(classes: int, dim: int = 32, queue: int = 1024, mlp: bool = True, blocks: int = 5) -> Shapes:
    """The whole MoCo object: both encoders with their projection, both classifiers, the queue."""
    projection: Shapes = {"fc.weight": (dim, 64), "fc.bias": (dim,)}
    if mlp:
        projection = {"fc.0.weight": (64, 64), "fc.0.bias": (64,), **batch_norm("fc.1", 64)}
        projection |= {"fc.3.weight": (dim, 64), "fc.3.bias": (dim,)}
    encoder = cifar_trunk(blocks) | projection
    shapes: Shapes = {"queue": (queue, dim), "queue_l": (queue,), "queue_ptr": (1,)}
    shapes |= {f"encoder_{e}.{name}": shape for e in "qk" for name, shape in encoder.items()}
    return shapes | {
        "linear.weight": (classes, 64),
        "linear.bias": (classes,),
        "linear_k.weight": (classes, 64),
        "linear_k.bias": (classes,),
    }


def deit(
    classes: int, dim: int, distilled: bool = True, depth: int = 12, patches: int = 196, patch: int = 16
) -> Shapes:
    """DeiT-LT (two tokens, two heads) and DeiT; 14 x 14 patches of 16 px."""
    tokens = 1 + distilled
    shapes: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, patches + tokens, dim)}
    if distilled:
        shapes |= {"dist_token": (1, 1, dim)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    for block in range(depth):
        for name, shape in {
            "norm1.weight": (dim,),
            "norm1.bias": (dim,),
            "attn.qkv.weight": (3 * dim, dim),
            "attn.qkv.bias": (3 * dim,),
            "attn.proj.weight": (dim, dim),
            "attn.proj.bias": (dim,),
            "norm2.weight": (dim,),
            "norm2.bias": (dim,),
            "mlp.fc1.weight": (4 * dim, dim),
            "mlp.fc1.bias": (4 * dim,),
            "mlp.fc2.weight": (dim, 4 * dim),
            "mlp.fc2.bias": (dim,),
        }.items():
            shapes[f"blocks.{block}.{name}"] = shape
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,), "head.weight": (classes, dim), "head.bias": (classes,)}
    if distilled:
        shapes |= {"head_dist.weight": (classes, dim), "head_dist.bias": (classes,)}
    return shapes


def livt(classes: int, dim: int = 768, depth: int = 12, patches: int = 196, patch: int = 16) -> Shapes:
    """LiVT's fine-tuned ViT, as the original MAE's: fc_norm over the mean of the patches, no norm (models/vit.py)."""
    shapes = deit(classes, dim, False, depth, patches, patch)
    return {name.replace("norm.", "fc_norm.") if name[:5] == "norm." else name: shape for name, shape in shapes.items()}


def mae(dim: int = 768, depth: int = 12, patches: int = 196, patch: int = 16) -> Shapes:
    """The encoder of a masked autoencoder: a ViT without head (models_mae.py of MAE, models/mae.py of LiVT)."""
    return {name: shape for name, shape in deit(1, dim, False, depth, patches, patch).items() if name[:5] != "head."}


def mae_decoder(dim: int = 768, width: int = 512, depth: int = 8, patches: int = 196, patch: int = 16) -> Shapes:
    """What LiVT's pretrained files hold beside the encoder."""
    blocks = {f"decoder_{n}": s for n, s in deit(1, width, False, depth).items() if n.startswith("blocks.")}
    return {
        "mask_token": (1, 1, width),
        "decoder_pos_embed": (1, patches + 1, width),
        "decoder_embed.weight": (width, dim),
        "decoder_embed.bias": (width,),
        **blocks,
        "decoder_norm.weight": (width,),
        "decoder_norm.bias": (width,),
        "decoder_pred.weight": (3 * patch**2, width),
        "decoder_pred.bias": (3 * patch**2,),
    }


def filled(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """A state_dict of random tensors; counters are int64, running variances positive."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked") or name.startswith("queue_"):
            state[name] = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=random) + 0.5
        else:
            state[name] = torch.randn(shape, generator=random) * 0.1
    return state


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    """The same without memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def parameters(shapes: Shapes) -> int:
    """Trained numbers: all but batch norm's statistics."""
    return sum(
        torch.Size(shape).numel() for name, shape in shapes.items() if "running" not in name and "tracked" not in name
    )
