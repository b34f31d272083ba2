"""Names of the official code's weights (danijar/dreamerv2, release 2.2.0 and May 2021) and ours."""

from repro.interop.weights import Names

_LAYER = r"(?:dense|h)(\d+)"
_BASE = [
    (r"encoder/conv(\d+)/(kernel|bias)", r"encoder/cnn/convs/\1/\2"),
    (r"encoder/convnorm(\d+)/(.+)", r"encoder/cnn/norms/\1/\2"),
    (rf"encoder/{_LAYER}/(.+)", r"encoder/mlp/layers/\1/linear/\2"),
    (r"encoder/norm(\d+)/(.+)", r"encoder/mlp/layers/\1/norm/\2"),
    (r"rssm/img_in/(.+)", r"rssm/input/linear/\1"),
    (r"rssm/img_in_norm/(.+)", r"rssm/input/norm/\1"),
    (r"rssm/cell/layer/(.+)", r"rssm/cell/linear/\1"),
    (r"rssm/cell/norm/(.+)", r"rssm/cell/norm/\1"),
    (r"rssm/img_out(?:_0)?/(.+)", r"rssm/prior_hidden/linear/\1"),
    (r"rssm/img_out_norm(?:_0)?/(.+)", r"rssm/prior_hidden/norm/\1"),
    (r"rssm/img_dist(?:_0)?/(.+)", r"rssm/prior_out/\1"),
    (r"rssm/obs_out/(.+)", r"rssm/posterior_hidden/linear/\1"),
    (r"rssm/obs_out_norm/(.+)", r"rssm/posterior_hidden/norm/\1"),
    (r"rssm/obs_dist/(.+)", r"rssm/posterior_out/\1"),
    (r"(?:heads/)?decoder/convin/(.+)", r"decoder/cnn/linear/\1"),
    (r"(?:heads/)?decoder/conv(\d+)/(kernel|bias)", r"decoder/cnn/convs/\1/\2"),
    (r"(?:heads/)?decoder/convnorm(\d+)/(.+)", r"decoder/cnn/norms/\1/\2"),
    (r"(?:heads/)?decoder/dense_(\w+)/out/(.+)", r"decoder/vector/\1/\2"),
    (rf"(?:heads/)?decoder/{_LAYER}/(.+)", r"decoder/mlp/layers/\1/linear/\2"),
    (r"(?:heads/)?decoder/norm(\d+)/(.+)", r"decoder/mlp/layers/\1/norm/\2"),
    (r"actor/out/out/(.+)", r"actor/out/\1"),
    (r"actor/out/std/(.+)", r"actor/std/\1"),
    (rf"(?:heads/)?(reward|discount|actor|critic)/{_LAYER}/(.+)", r"\1/mlp/layers/\2/linear/\3"),
    (r"(?:heads/)?(reward|discount|actor|critic)/norm(\d+)/(.+)", r"\1/mlp/layers/\2/norm/\3"),
    (r"(?:heads/)?(reward|discount|critic)/out/out/(.+)", r"\1/mlp/out/\2"),
]
# Norms call their parameters gamma and beta there, scale and offset here.
_NORMS = [
    (pattern.removesuffix("(.+)") + official, ours[: ours.rindex("\\")] + name)
    for pattern, ours in _BASE
    if "/norm" in ours
    for official, name in (("gamma", "scale"), ("beta", "offset"))
]

NAMES = Names([*_NORMS, *_BASE], swapped=r"^decoder/cnn/convs/\d+/kernel$")
