"""Where models compute, if nobody says."""


def usual_device() -> str:
    """A GPU, if there is one."""
    import torch  # seconds, which whoever only imports this need not wait

    return "cuda" if torch.cuda.is_available() else "cpu"
