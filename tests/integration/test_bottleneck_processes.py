"""Two processes share a batch out and learn the bottleneck that one learns from the whole of it."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.forked import of_two, run_forked

SCRIPT = """
import os
import sys
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from genie_lite.nn.quantize import FSQConfig, NoneConfig, Quantizer, ResidualVQConfig, VAEConfig, VQConfig

rank, world, folder = int(os.environ["LOCAL_RANK"]), int(sys.argv[1]), sys.argv[2]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
configs = {
    "vq_shared": VQConfig(num_codes=6, dim=3, tokens=2, decay=0.5, restart_below=1.5),
    "vq_own": VQConfig(num_codes=6, dim=3, tokens=2, share=False, decay=0.5, restart_below=1.5),
    "residual_own": ResidualVQConfig(num_codes=6, dim=3, depth=2, decay=0.5, restart_below=1.5),
    "residual_shared": ResidualVQConfig(num_codes=6, dim=3, depth=2, share=True, decay=0.5, restart_below=2.0),
    "fsq": FSQConfig(levels=(4, 3)),
    "vae": VAEConfig(dim=3, menu=4),
    "none": NoneConfig(dim=3, menu=4),
}
kept = {}
for kind, config in configs.items():
    torch.manual_seed(0)
    quantizer = Quantizer(config, 5)
    for step in range(6):
        rows = torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(step))
        rows[:4] += step  # the halves differ
        torch.manual_seed(step)
        out = quantizer(rows.chunk(world)[rank])
    kept |= {f"{kind}.{name}": tensor for name, tensor in quantizer.state_dict().items()}
    parts = [torch.empty_like(out.vector) for _ in range(world)]
    if world > 1:
        dist.all_gather(parts, out.vector.detach())
    kept[f"{kind}/vector"] = torch.cat(parts) if world > 1 else out.vector.detach()
save_file(kept, f"{folder}/{world}-{rank}.safetensors")
if world > 1:
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_processes_learn_books_menus_and_statistics_of_one_and_draw_its_noise(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for num in (1, 2):
        argv = [str(tmp_path / "script.py"), str(num), str(tmp_path)]
        done = run_forked(argv, tmp_path, environments=of_two()[:num])
        assert done.returncode == 0, done.stderr
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    for name, wanted in one.items():
        torch.testing.assert_close(first[name], wanted, rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0, msg=name)
