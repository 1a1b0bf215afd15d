"""Make torchvision importable beside a CPU build of torch.

The registry's torchvision wheels are built for CUDA. Beside a CPU torch their import fails with
"operator torchvision::nms does not exist", and torchmetrics, lightning and timm fail with it because
they import torchvision whenever it is installed. Declaring the missing operators' schemas is enough
for everything this package uses; `nms` itself and torchvision's own JPEG decoder stay unusable.
"""

import functools
import importlib
import sys


@functools.cache
def repair() -> bool:
    """Import torchvision, declaring the missing operators if that is what fails.

    Call it before the first import of lightning, torchmetrics or timm.

    Returns:
        True when a repair was needed, False when torchvision works or is absent.

    Raises:
        RuntimeError: torchvision fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return False
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_operators()
    importlib.import_module("torchvision")
    return True


_libraries = []  # a Library's schemas vanish with the object that declared them


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
