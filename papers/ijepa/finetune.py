"""Fine-tuning on 1 % of ImageNet's labels (P table 2, appendix A.2) as a stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from papers.ijepa import networks
from papers.ijepa.config import Config
from papers.ijepa.jobs import Split, labelled_crop
from repro.data.augment import RandAugment
from repro.data.images import ImageSet
from repro.data.loader import Loader
from repro.data.transforms import normalise
from repro.evaluation.probes.finetune import FineTune, FineTuning
from repro.nn import vit
from repro.pipeline.artefacts import save_arrays
from repro.pipeline.seeds import keys
from repro.pipeline.stages import Job


class Tune(Job):
    """Updates of the encoder and a linear map of its mean output, on crops changed by RandAugment."""

    def __init__(
        self, config: Config, protocol: FineTune, encoder: vit.Params, train: ImageSet, test: Split, name: str
    ) -> None:
        """`train` holds the labelled images alone; `name` is what the accuracy is called in the artefact."""
        self.test, self.name, seed = test, name, config.first_seed
        batch = min(protocol.batch, len(train))
        self.loader = Loader(train, RandAugment(labelled_crop(config)), batch, seed, config.data.workers)

        def encode(params: vit.Params, images: jax.Array) -> jax.Array:
            return networks.encode(params, config.model, config.grid, normalise(images)).mean(1)

        steps = self.loader.steps_per_epoch
        tuning = FineTuning(protocol, encode, encoder, config.model.width, train.classes, steps)
        self.total = tuning.updates
        self.state = tuning.init(keys([seed], "evaluate")[0], encoder)
        self.update, self.correct = jax.jit(tuning.update, donate_argnums=0), jax.jit(tuning.correct)

    def step(self, index: int) -> Mapping[str, Any]:
        """One update."""
        batch = self.loader.batch(index)
        self.state, loss = self.update(self.state, batch["image"], batch["label"])
        return {"loss": loss}

    def write(self, folder: Path) -> None:
        """The accuracy on the test split in percent."""
        right = seen = 0
        for batch in self.test():
            labels = jnp.where(batch["valid"], batch["label"], -1)
            right += int(self.correct(self.state, batch["image"], labels))
            seen += int(batch["valid"].sum())
        save_arrays(folder, {self.name: 100 * right / seen})

    def close(self) -> None:
        """Ends the threads."""
        self.loader.close()
