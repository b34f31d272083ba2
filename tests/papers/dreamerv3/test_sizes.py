"""Parameter counts of all sizes equal those of the official initialisation."""

import pytest

from papers.dreamerv3.agent_config import size
from papers.dreamerv3.networks import Networks
from repro.envs.base import Space
from repro.errors import UsageError
from repro.nn.params import Definition

INPUTS = {
    "walker": ({"proprio": Space((24,))}, Space((6,))),
    "rgb, 6 continuous": ({"image": Space((64, 64, 3), "uint8")}, Space((6,))),
    "gray 96, 18 discrete": ({"image": Space((96, 96, 1), "uint8")}, Space((), "int32", 18)),
    "rgb, 18 discrete": ({"image": Space((64, 64, 3), "uint8")}, Space((), "int32", 18)),
    "rgb, 17 discrete": ({"image": Space((64, 64, 3), "uint8")}, Space((), "int32", 17)),
}
MODULES = ("encoder", "rssm", "decoder", "reward", "continuation", "actor", "critic")
COUNTS = {
    ("1M", "walker"): (10112, 364416, 51096, 57663, 41153, 50316, 66111),
    ("1M", "rgb, 6 continuous"): (14304, 376704, 80595, 57663, 41153, 50316, 66111),
    ("1M", "gray 96, 18 discrete"): (13904, 397952, 142273, 57663, 41153, 50706, 66111),
    ("1M", "rgb, 18 discrete"): (14304, 377472, 80595, 57663, 41153, 50706, 66111),
    ("1M", "rgb, 17 discrete"): (14304, 377408, 80595, 57663, 41153, 50641, 66111),
    ("12M", "walker"): (138752, 5783040, 794136, 721407, 656129, 791052, 853503),
    ("12M", "rgb, 6 continuous"): (220416, 5979648, 1272003, 721407, 656129, 791052, 853503),
    ("12M", "gray 96, 18 discrete"): (218816, 6310400, 2256001, 721407, 656129, 792594, 853503),
    ("12M", "rgb, 18 discrete"): (220416, 5982720, 1272003, 721407, 656129, 792594, 853503),
    ("12M", "rgb, 17 discrete"): (220416, 5982464, 1272003, 721407, 656129, 792337, 853503),
    ("25M", "walker"): (306432, 12999936, 1781016, 1573503, 1475713, 1776396, 1869951),
    ("25M", "rgb, 6 continuous"): (493824, 13442304, 2857635, 1573503, 1475713, 1776396, 1869951),
    ("25M", "gray 96, 18 discrete"): (491424, 14184192, 5070913, 1573503, 1475713, 1778706, 1869951),
    ("25M", "rgb, 18 discrete"): (493824, 13446912, 2857635, 1573503, 1475713, 1778706, 1869951),
    ("50M", "walker"): (539648, 23100416, 3161112, 2753279, 2622977, 3154956, 3279615),
    ("50M", "rgb, 6 continuous"): (876032, 23886848, 5076355, 2753279, 2622977, 3154956, 3279615),
    ("50M", "gray 96, 18 discrete"): (872832, 25203712, 9010433, 2753279, 2622977, 3158034, 3279615),
    ("50M", "rgb, 18 discrete"): (876032, 23892992, 5076355, 2753279, 2622977, 3158034, 3279615),
    ("50M", "rgb, 17 discrete"): (876032, 23892480, 5076355, 2753279, 2622977, 3157521, 3279615),
    ("100M", "walker"): (1202688, 51952128, 7100952, 6095871, 5900545, 7091724, 7278591),
    ("100M", "rgb, 6 continuous"): (1966848, 53721600, 11413059, 6095871, 5900545, 7091724, 7278591),
    ("100M", "gray 96, 18 discrete"): (1962048, 56679936, 20263297, 6095871, 5900545, 7096338, 7278591),
    ("100M", "rgb, 18 discrete"): (1966848, 53730816, 11413059, 6095871, 5900545, 7096338, 7278591),
    ("200M", "walker"): (2127872, 92338176, 12613656, 10749183, 10488833, 12601356, 12850431),
    ("200M", "rgb, 6 continuous"): (3492864, 95483904, 20282115, 10749183, 10488833, 12601356, 12850431),
    ("200M", "gray 96, 18 discrete"): (3486464, 100739072, 36014593, 10749183, 10488833, 12607506, 12850431),
    ("200M", "rgb, 18 discrete"): (3492864, 95496192, 20282115, 10749183, 10488833, 12607506, 12850431),
    ("200M", "rgb, 17 discrete"): (3492864, 95495168, 20282115, 10749183, 10488833, 12606481, 12850431),
    ("400M", "walker"): (4764672, 207713280, 28357656, 23987967, 23597569, 28339212, 28712703),
    ("400M", "rgb, 6 continuous"): (7850496, 214791168, 45617283, 23987967, 23597569, 28339212, 28712703),
    ("400M", "gray 96, 18 discrete"): (7840896, 226606080, 81012481, 23987967, 23597569, 28348434, 28712703),
    ("400M", "rgb, 18 discrete"): (7850496, 214809600, 45617283, 23987967, 23597569, 28348434, 28712703),
}
TOTALS = {("1M", "walker"): 640867, ("12M", "rgb, 18 discrete"): 10498772, ("200M", "gray 96, 18 discrete"): 186936082}


@pytest.mark.parametrize(("name", "inputs"), COUNTS)
def test_every_module_has_the_official_number_of_parameters(name, inputs):
    obs, action = INPUTS[inputs]
    definition = Definition(lambda draw: Networks(size(name), obs, {"action": action}, draw=draw))
    counts = dict.fromkeys(MODULES, 0)
    for parameter, shape in definition.shapes.items():
        counts[parameter.split("/")[0]] += shape.size
    assert tuple(counts.values()) == COUNTS[name, inputs]
    assert definition.count() == TOTALS.get((name, inputs), sum(counts.values()))


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(UsageError, match="12M"):
        size("12m")
