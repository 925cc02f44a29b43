"""open_clip's import: without torch's compiler, which stays there for those who ask for it."""

import gc
import subprocess
import sys

SCRIPT = """
import sys
from search_core.heavy_imports import import_open_clip
open_clip = import_open_clip()
assert open_clip is sys.modules["open_clip"]
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") is True
assert sys.modules["torch._dynamo"].__file__ and import_open_clip() is open_clip
"""


def test_open_clip_comes_without_the_compiler_and_the_compiler_when_it_is_asked_for():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_collector_pauses_and_goes_on_whatever_happens():
    from search_core.heavy_imports import collector_paused

    try:
        with collector_paused():
            assert not gc.isenabled()
            with collector_paused():
                pass
            assert not gc.isenabled()
            raise ImportError
    except ImportError:
        assert gc.isenabled()
