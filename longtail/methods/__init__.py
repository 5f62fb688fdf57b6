"""One paper, one file: `Config` and `Method`. The file's name is the method's name in params.yaml.

A Method is made of its Config, the class counts and the logits' device (default: cpu), has
loss(logits, targets, epoch) -> float32 [G], and two parts of it that a run's probe keeps (longtail/runs/probe.py):
targets(targets, classes, epoch) -> float32 [B, C], what the logits are held against, and
class_weights(epoch) -> float32 [C], what each class has of its own in it, weight, bias or margin, or None. An epoch at
which its loss changes is a field of its Config that ends in _epoch or _until. Of itself it says
    distilled      the model has a DIST token
    needs_teacher  the loss reads the teacher's labels; a property of that name of the Config may say otherwise
    takes_mixed    the loss can read mixed labels; without it the views must not be mixed. Where that depends on the
                   Config, a property `takes_mixed` of it says so
    head_only      a new head is trained on the frozen backbone of the run it starts from (training/student_run.py)
    head           of the CLS token: "linear" gives logits, "normed" cosines
    needs_features loss takes one more argument, what the head reads, float32 [B, d]
    logit_scale    factor of the exported logits before a softmax: that of the cosines, else 1 (METHODS trap 24)
"""
