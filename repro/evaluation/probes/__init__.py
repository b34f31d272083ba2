"""What frozen features are worth: linear probes, nearest neighbours, attentive probes."""

from repro.evaluation.probes.knn import knn
from repro.evaluation.probes.linear import Heads, LinearProbe, ProbeResult, linear_probe

__all__ = ["Heads", "LinearProbe", "ProbeResult", "knn", "linear_probe"]
