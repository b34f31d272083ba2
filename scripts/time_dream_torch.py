"""Times a plain PyTorch batch of Take Cover's dream, for comparison with `repro bench world_models` (random weights).

    python scripts/time_dream_torch.py [--rollouts 1024] [--steps 100] [--threads 2]      (needs torch alone)

The shapes are the paper's: z 64, LSTM 512, 5 mixtures, one linear controller of (z, c, h) a roll-out. All roll-outs are
stepped together as tensors, without gradients; a step is controller, LSTM, mixture density, tempered sample, restart
flag. Prints one JSON object: steps a second, median of five generations.
"""

import argparse
import json
import time

import torch

LATENT, HIDDEN, MIXTURES = 64, 512, 5


def generation(kernels: list[torch.Tensor], controllers: torch.Tensor, steps: int, temperature: float = 1.15) -> float:
    """Dreams `steps` steps of every roll-out; returns the mean length."""
    of_x, of_h, bias, head, head_bias = kernels
    count = len(controllers)
    z, c, h = torch.randn(count, LATENT), torch.zeros(count, HIDDEN), torch.zeros(count, HIDDEN)
    restart, alive, length = torch.ones(count, 1), torch.ones(count), torch.zeros(count)
    for _ in range(steps):
        seen = torch.cat([z, c, h], -1)
        action = torch.tanh((seen * controllers).sum(-1, keepdim=True))
        gates = torch.addmm(bias, torch.cat([z, action, restart], -1), of_x).addmm_(h, of_h)
        i, j, f, o = gates.chunk(4, -1)
        c = c * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
        h = torch.tanh(c) * torch.sigmoid(o)
        y = torch.addmm(head_bias, h, head)
        logits, mean, log_std = y[:, 1:].view(count, 3, MIXTURES, LATENT).unbind(1)
        total = torch.softmax(logits / temperature, 1).cumsum(1)
        chosen = (total < torch.rand(count, 1, LATENT)).sum(1, keepdim=True).clamp_(max=MIXTURES - 1)
        mean, log_std = mean.gather(1, chosen)[:, 0], log_std.gather(1, chosen)[:, 0]
        z = mean + torch.exp(log_std) * temperature**0.5 * torch.randn(count, LATENT)
        length += alive
        restart = (y[:, :1] > 0).float()
        alive = alive * (1 - restart[:, 0])
    return float(length.mean())


def main() -> None:
    """Reads the options, prints the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    inputs, outputs = LATENT + 2, 1 + 3 * MIXTURES * LATENT
    shapes = [(inputs, 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN,), (HIDDEN, outputs), (outputs,)]
    kernels = [0.05 * torch.randn(*shape) for shape in shapes]
    kernels[-1][0] = -100  # no dream ends
    controllers = 0.1 * torch.randn(args.rollouts, LATENT + 2 * HIDDEN)
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            begin = time.perf_counter()
            generation(kernels, controllers, args.steps)
            seconds.append(time.perf_counter() - begin)
    median = sorted(seconds[1:])[2]
    rate = args.rollouts * args.steps / median
    print(
        json.dumps(
            {"steps_a_second": round(rate), "seconds": [round(s, 3) for s in seconds], "torch": torch.__version__}
        )
    )


if __name__ == "__main__":
    main()
