"""What people call a model, whatever place on a disk it is read from."""

from pathlib import PurePath


def model_name(model: str) -> str:
    """Return the name of a model: of a folder its last part, of a snapshot in the hub's cache the repository.

    >>> model_name("/data/models/tiny-llama/"), model_name("Qwen/Qwen3-0.6B"), model_name("bundled")
    ('tiny-llama', 'Qwen/Qwen3-0.6B', 'bundled')
    >>> model_name("/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de2")
    'Qwen/Qwen3-0.6B'
    """
    if not model.startswith(("/", "./", "../", "~")):
        return model
    path = PurePath(model)
    *_, repository, folder, _ = ("", "", *path.parts)
    if folder == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return path.name or model
