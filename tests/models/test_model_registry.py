"""Models by name, and the user's own code behind `package.module:function`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from raymia.errors import InputError
from raymia.models import build_model, last_linear, model_source_digest, user_code

LINEAR = """
from torch import nn

def build(input_shape, classes, scale=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * 64, classes * scale))
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into a folder that Python imports from; everything is forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_module(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write_module
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refusal(name: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        build_model(name, (1, 8, 8), 4, options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_model_names_the_nearest() -> None:
    message = refusal("resnet81")
    assert "'resnet18'" in message
    assert "vgg11" in message


def test_unknown_option_names_the_nearest() -> None:
    assert "did you mean 'width'" in refusal("resnet18", widht=16)
    assert "batch_norm" in refusal("vgg11", dropout=0.5)


def test_own_model_is_built_with_its_options(write: Write) -> None:
    write("plain_model.py", LINEAR)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    model = build_model("plain_model:build", (1, 8, 8), 4, {"scale": 1})
    assert model.training
    assert model(torch.rand(3, 1, 8, 8)).shape == (3, 4)
    torch.set_rng_state(state)
    again = build_model("plain_model:build", (1, 8, 8), 4)
    assert torch.equal(last_linear(again).weight, last_linear(model).weight)


def test_trying_an_own_model_leaves_the_random_stream_alone(write: Write) -> None:
    write(
        "noisy_model.py",
        "import torch\nclass Noisy(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.rand(len(x), 4)\n"
        "def build(input_shape, classes):\n    return Noisy()\n",
    )
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_model("noisy_model:build", (1, 8, 8), 4)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("spec", "text", "message"),
    [
        ("absent_model:build", None, "cannot import absent_model"),
        ("broken_model:build", "1 / 0", "ZeroDivisionError"),
        ("torn_model:build", "def build(:", "SyntaxError"),
        ("empty_model:build", "", "has no build"),
        ("value_model:build", "build = 3", "cannot be called"),
        ("none_model:build", "def build(input_shape, classes): return None", "returns NoneType"),
        ("raising_model:build", "def build(input_shape, classes): raise KeyError('x')", "KeyError"),
        ("narrow_model:build", "def build(input_shape): return None", "TypeError"),
        (
            "wrong_shape_model:build",
            "from torch import nn\ndef build(input_shape, classes): return nn.Flatten()",
            r"answers (2, 64) to 2 records: it must give logits of shape (2, 4)",
        ),
        (
            "failing_model:build",
            "from torch import nn\ndef build(input_shape, classes): return nn.Linear(3, classes)",
            "fails on an input of shape (2, 1, 8, 8)",
        ),
        ("not-a-module:build", None, "package.module:function"),
        ("module:", None, "package.module:function"),
    ],
)
def test_own_model_that_cannot_be_used(write: Write, spec: str, text: str | None, message: str) -> None:
    if text is not None:
        write(f"{spec.partition(':')[0]}.py", text)
    assert message in refusal(spec)


def test_own_model_refuses_an_unknown_option(write: Write) -> None:
    write("option_model.py", LINEAR)
    assert "did you mean 'scale'" in refusal("option_model:build", scael=2)


def test_digest_of_built_in_models_is_empty() -> None:
    assert model_source_digest("resnet18") == ""


def test_digest_follows_the_module_and_what_it_imports(write: Write) -> None:
    write("digest_pkg/__init__.py", "")
    write(
        "digest_pkg/models.py",
        "import torch\nfrom .layers import Block\nfrom digest_pkg import sizes\nimport digest_beside\n",
    )
    write("digest_pkg/layers.py", "from . import deep\nBlock = 1\n")
    write("digest_pkg/deep.py", "x = 1\n")
    write("digest_pkg/sizes.py", "x = 1\n")
    write("digest_pkg/unused.py", "x = 1\n")
    write("digest_beside.py", "x = 1\n")
    before = model_source_digest("digest_pkg.models:build")
    assert len(before) == 64
    assert model_source_digest("digest_pkg.models:other") == before
    write("digest_pkg/unused.py", "x = 2\n")
    assert model_source_digest("digest_pkg.models:build") == before
    seen = {before}
    for name in ("models", "layers", "deep", "sizes", "__init__"):
        with (Path(sys.path[0]) / "digest_pkg" / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        seen.add(model_source_digest("digest_pkg.models:build"))
    write("digest_beside.py", "x = 2\n")
    seen.add(model_source_digest("digest_pkg.models:build"))
    assert len(seen) == 7


def test_digest_leaves_installed_libraries_out(write: Write) -> None:
    write("library_model.py", "import torch\nfrom torch import nn\nimport raymia.models\n")
    alone = model_source_digest("library_model:build")
    write("twin_model.py", "import torch\nfrom torch import nn\nimport raymia.models\n")
    assert alone != model_source_digest("twin_model:build")  # the name counts, the libraries' files do not
    assert set(user_code._closure("library_model", Path(sys.path[0]).resolve())) == {"library_model"}


def test_digest_of_a_missing_module_is_refused() -> None:
    with pytest.raises(InputError, match="no source file"):
        model_source_digest("module_that_is_not_there:build")


def test_digest_leaves_raymia_itself_out_even_in_a_checkout_beside_the_users_module() -> None:
    checkout = Path(user_code.__file__).resolve().parents[2]
    assert not user_code._is_users("raymia.models", "my_model", checkout)
