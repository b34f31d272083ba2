"""Times a plain PyTorch batch of Take Cover's dream, for comparison with this suite's.

    python scripts/time_dream_torch.py [--rollouts 1024] [--steps 100] [--threads 2]      (needs torch alone)
    python scripts/time_dream_torch.py --generation FILE.npz                              (from time_generation.py)

All roll-outs are stepped together as tensors, without gradients; a step is controller, LSTM, mixture density, tempered
sample, restart flag. Without a file: random weights at the paper's shapes (z 64, LSTM 512, 5 mixtures, one linear
controller of (z, c, h) a roll-out) of which no dream ends, beside `repro bench world_models`. With one: the generation
that it holds, stepped until the last dream is over, as a loop over tensors has to. Prints one JSON object: steps of
dreams that were not over yet, a second; median of five generations.
"""

import argparse
import json
import time

import numpy as np
import torch

LATENT, HIDDEN, MIXTURES = 64, 512, 5


def generation(
    kernels: list[torch.Tensor], controllers: torch.Tensor, z: torch.Tensor, steps: int, temperature: float
) -> torch.Tensor:
    """Dreams at most `steps` steps of every roll-out from latents z; returns their lengths."""
    of_x, of_h, bias, head, head_bias = kernels
    count, latent = z.shape
    c, h = torch.zeros(count, len(of_h)), torch.zeros(count, len(of_h))
    restart, alive, length = torch.ones(count, 1), torch.ones(count), torch.zeros(count)
    for step in range(steps):
        seen = torch.cat([z, c, h], -1)
        action = torch.tanh((seen * controllers).sum(-1, keepdim=True))
        gates = torch.addmm(bias, torch.cat([z, action, restart], -1), of_x).addmm_(h, of_h)
        i, j, f, o = gates.chunk(4, -1)
        c = c * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
        h = torch.tanh(c) * torch.sigmoid(o)
        y = torch.addmm(head_bias, h, head)
        logits, mean, log_std = y[:, 1:].view(count, 3, MIXTURES, latent).unbind(1)
        total = torch.softmax(logits / temperature, 1).cumsum(1)
        chosen = (total < torch.rand(count, 1, latent)).sum(1, keepdim=True).clamp_(max=MIXTURES - 1)
        mean, log_std = mean.gather(1, chosen)[:, 0], log_std.gather(1, chosen)[:, 0]
        z = mean + torch.exp(log_std) * temperature**0.5 * torch.randn(count, latent)
        length += alive
        restart = (y[:, :1] > 0).float()
        alive = alive * (1 - restart[:, 0])
        if step % 8 == 0 and not alive.any():
            break
    return length


def random_case(rollouts: int, steps: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, int, float]:
    """Random weights at the paper's shapes."""
    inputs, outputs = LATENT + 2, 1 + 3 * MIXTURES * LATENT
    shapes = [(inputs, 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN,), (HIDDEN, outputs), (outputs,)]
    kernels = [0.05 * torch.randn(*shape) for shape in shapes]
    kernels[-1][0] = -100  # no dream ends
    controllers = 0.1 * torch.randn(rollouts, LATENT + 2 * HIDDEN)
    return kernels, controllers, torch.randn(rollouts, LATENT), steps, 1.15


def recorded_case(file: str) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, int, float]:
    """A generation written by `time_generation.py`."""
    arrays = np.load(file)
    names = ("lstm/kernel_x", "lstm/kernel_h", "lstm/bias", "head/kernel", "head/bias")
    kernels = [torch.from_numpy(arrays[name]) for name in names]
    controllers, z = torch.from_numpy(arrays["controllers"]), torch.from_numpy(arrays["latent"])
    return kernels, controllers, z, int(arrays["max_steps"]), float(arrays["temperature"])


def main() -> None:
    """Reads the options, prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--generation", metavar="FILE")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    case = recorded_case(args.generation) if args.generation else random_case(args.rollouts, args.steps)
    seconds, rates, means = [], [], []
    with torch.inference_mode():
        for _ in range(6):
            begin = time.perf_counter()
            lengths = generation(*case)
            seconds.append(time.perf_counter() - begin)
            rates.append(float(lengths.sum()) / seconds[-1])
            means.append(float(lengths.mean()))
    print(
        json.dumps(
            {
                "steps_a_second": round(sorted(rates[1:])[2]),
                "seconds": [round(s, 3) for s in seconds],
                "mean_length": round(sum(means) / len(means), 1),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
