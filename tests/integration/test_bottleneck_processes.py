"""Two processes share a batch out and learn the bottleneck that one learns from the whole of it."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from genie_lite.nn.quantize import FSQConfig, NoneConfig, Quantizer, ResidualVQConfig, VAEConfig, VQConfig

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
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


def start(rank: int, world: int, folder: Path) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(rank), str(world), str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_processes_learn_books_menus_and_statistics_of_one_and_draw_its_noise(tmp_path: Path) -> None:
    started = [start(0, 1, tmp_path), start(0, 2, tmp_path), start(1, 2, tmp_path)]
    told = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    for name, wanted in one.items():
        torch.testing.assert_close(first[name], wanted, rtol=1e-4, atol=1e-5, msg=name)
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0, msg=name)
