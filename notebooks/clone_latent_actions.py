"""Behaviour cloning from a file of latent actions: which code comes next, from one frame.

    python notebooks/clone_latent_actions.py LATENTS VIDEOS

An ordinary training loop. Of genie_lite it reads the Parquet that `genie-lite extract` wrote, and nothing else; what
it learns, a policy over latent actions, wants a few labels afterwards to become one over real ones.
"""

import sys
from pathlib import Path

import decord
import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

latents, videos = Path(sys.argv[1]), Path(sys.argv[2])
rows = pq.read_table(sorted(latents.glob("*.parquet"))).to_pydict()
valid, source = np.array(rows["valid"]), np.array(rows["source"])
frame_index, code = np.array(rows["frame_index"]), np.array(rows["code"])

frames = np.zeros((len(code), 64, 64, 3), np.uint8)
for name in np.unique(source):
    reader = decord.VideoReader(str(videos / name), width=64, height=64)
    frames[source == name] = reader.get_batch(frame_index[source == name]).asnumpy()

# Whole videos are held out: neighbouring frames look alike, and a split by rows would test on what it has seen.
is_test = np.isin(source, np.unique(source)[::5])
train, test = np.flatnonzero(valid & ~is_test), np.flatnonzero(valid & is_test)
pixels, target = torch.from_numpy(frames).permute(0, 3, 1, 2), torch.from_numpy(code).long()

torch.manual_seed(0)
draw = np.random.default_rng(0)
layers = [nn.Conv2d(3, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Flatten()]
policy = nn.Sequential(*layers, nn.Linear(64 * 6 * 6, 256), nn.ReLU(), nn.Linear(256, int(code.max()) + 1))
optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
for _ in range(200):
    batch = draw.choice(train, 64)
    loss = nn.functional.cross_entropy(policy(pixels[batch] / 255), target[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    right = (policy(pixels[test] / 255).argmax(dim=1) == target[test]).float().mean()
majority = (target[test] == target[train].mode().values).float().mean()
print(f"{len(test)} held-out transitions: policy {right:.0%}, always the commonest code {majority:.0%}")
