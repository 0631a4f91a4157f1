"""Zero-shot classification: the class texts are the classifier, and no image is used for learning."""

from __future__ import annotations

from clipzoo.probes.base import Examples, FittedProbe, Probe, softmax
from clipzoo.registries import PROBES


@PROBES.register_module()
class ZeroShot(Probe):
    """Softmax over the similarities to the class texts, multiplied by the model's own scale.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020, section 3.1.2.
    """

    name = "zero_shot"
    copies = 3
    needs_text = True
    needs_examples = False

    def learn(self, examples: Examples) -> FittedProbe:
        """See ``Probe.fit``."""
        text_DC, scale = examples.text.T, examples.logit_scale
        return FittedProbe(lambda features: softmax(scale * (features @ text_DC)))
