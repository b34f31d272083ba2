"""Names of the official code's weights (danijar/dreamer) and ours."""

from repro.interop.weights import Names

NAMES = Names(
    [
        (r"encode/h([1-4])/(kernel|bias)", lambda m: f"encoder/cnn/convs/{int(m[1]) - 1}/{m[2]}"),
        (r"decode/h1/(kernel|bias)", r"decoder/cnn/linear/\1"),
        (r"decode/h([2-5])/(kernel|bias)", lambda m: f"decoder/cnn/convs/{int(m[1]) - 2}/{m[2]}"),
        (r"dynamics/img1/(.+)", r"rssm/input/linear/\1"),
        (r"dynamics/img2/(.+)", r"rssm/prior_hidden/linear/\1"),
        (r"dynamics/img3/(.+)", r"rssm/prior_out/\1"),
        (r"dynamics/obs1/(.+)", r"rssm/posterior_hidden/linear/\1"),
        (r"dynamics/obs2/(.+)", r"rssm/posterior_out/\1"),
        (r"dynamics/cell/recurrent_kernel", "rssm/cell/recurrent"),
        (r"dynamics/cell/(kernel|bias)", r"rssm/cell/\1"),
        (r"reward/h(\d+)/(.+)", r"reward/mlp/layers/\1/linear/\2"),
        (r"pcont/h(\d+)/(.+)", r"discount/mlp/layers/\1/linear/\2"),
        (r"value/h(\d+)/(.+)", r"critic/mlp/layers/\1/linear/\2"),
        (r"actor/h(\d+)/(.+)", r"actor/mlp/layers/\1/linear/\2"),
        (r"reward/hout/(.+)", r"reward/mlp/out/\1"),
        (r"pcont/hout/(.+)", r"discount/mlp/out/\1"),
        (r"value/hout/(.+)", r"critic/mlp/out/\1"),
        (r"actor/hout/(.+)", r"actor/mlp/out/\1"),
    ],
    swapped=r"^decoder/cnn/convs/\d+/kernel$",
)
