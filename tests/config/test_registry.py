"""Registries: names, homes, slots, clashes."""

import sys

import pytest

from clipzoo.config.registry import Registry
from clipzoo.errors import RegistryError


def registered(registry: Registry, name: str, **attributes) -> type:
    return registry.register_module()(type(name, (), {"__module__": __name__, "__qualname__": name, **attributes}))


def test_key_is_the_class_name_and_a_clash_names_both_places():
    losses = Registry("loss", None)
    first = registered(losses, "MyLoss")
    assert losses.get("MyLoss") is first and list(losses) == ["MyLoss"] and len(losses) == 1
    with pytest.raises(RegistryError, match="'MyLoss': registered twice, in .*test_registry.MyLoss and elsewhere.MyLoss"):
        losses.register_module()(type("MyLoss", (), {"__module__": "elsewhere"}))


def test_unknown_name_suggests_the_closest():
    losses = Registry("loss", None)
    registered(losses, "ContrastiveLoss")
    with pytest.raises(RegistryError, match="unknown loss 'ContrastivLoss'. Did you mean 'ContrastiveLoss'"):
        losses.get("ContrastivLoss")


def test_build_fills_slots_recursively_and_leaves_objects_alone():
    slots: dict = {}
    losses, models = Registry("loss", None, slots=slots), Registry("model", None, slots=slots)
    slots["loss"] = losses

    @losses.register_module()
    class Loss:
        def __init__(self, t: float = 1.0):
            self.t = t

    @models.register_module()
    class Model:
        def __init__(self, loss, width: int = 2):
            self.loss, self.width = loss, width

    built = models.build({"type": "Model", "loss": {"type": "Loss", "t": 3.0}}, width=5)
    assert built.loss.t == 3.0 and built.width == 5
    assert models.build(built) is built
    assert models.build({"type": "Model", "loss": None}).loss is None


def test_home_is_imported_at_first_lookup_and_again_after_a_failure(tmp_path, monkeypatch):
    home = tmp_path / "home_of_losses.py"
    home.write_text("raise ImportError('half installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    losses = Registry("loss", "home_of_losses")
    assert "home_of_losses" not in sys.modules
    for _ in range(2):
        with pytest.raises(ImportError, match="half installed"):
            losses.get("X")


def test_a_spec_must_have_a_type():
    with pytest.raises(RegistryError, match="loss: expected a name or a dict with 'type'"):
        Registry("loss", None).expand({"temperature": 1})
