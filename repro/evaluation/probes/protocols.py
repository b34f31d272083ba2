"""The probes of the papers, as data."""

from repro.evaluation.probes.linear import LinearProbe

IMAGENET_LARS = LinearProbe("lars", (0.01, 0.05, 0.001), (0.0005, 0.0), ("bn", "plain"), 16_384, 50, (15, 30, 45))
"""I-JEPA, Table 1 and appendix A.2: LARS on batches of 16,384, 50 epochs, the sweep that the paper states."""

IMAGENET_LARS_VISSL = LinearProbe("lars", (6.4, 0.64), (0.0005, 0.0), ("bn", "plain"), 16_384, 50, (15, 30, 45))
"""The same with the rates of the released VISSL file, 0.1 for 256 images times 1 and 0.1; which list made the published
numbers is not known."""

IMAGENET_SGD = LinearProbe("sgd", (0.01,), (0.0005,), ("bn", "plain"), 256, 28, (8, 16, 24))
"""What the released files of ViT-B/16, L/16 and g/16 inherit."""

TRANSFER = {
    "cifar100": IMAGENET_SGD,
    "places205": LinearProbe("sgd", (0.01,), (0.0005,), ("bn", "plain"), 256, 14, (4, 8, 12)),
    "inaturalist18": LinearProbe("sgd", (0.01,), (0.0005,), ("bn", "plain"), 256, 84, (24, 48, 72)),
    "clevr_count": LinearProbe("sgd", (0.01,), (0.0005,), ("bn", "plain"), 256, 50, cosine_to=0.01),
    "clevr_dist": LinearProbe("sgd", (0.01,), (0.0005,), ("bn", "plain"), 256, 100, cosine_to=0.01),
}
"""I-JEPA, Tables 3 to 5; features "last" and "concat4", so four heads, the best reported."""

SMALL = LinearProbe("sgd", (0.3, 0.1, 0.03, 0.01), (0.0005, 0.0), ("bn", "plain"), 1024, 50, (15, 30, 45))
"""Ours, for sets of ten thousand images, where 16,384 would leave few updates; rates fixed before any result."""
