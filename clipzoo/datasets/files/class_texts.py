"""Class texts: the sentences that describe the classes, from a JSON file or a template."""

from __future__ import annotations

import string
from collections.abc import Sequence

from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import json_kind, read_json
from clipzoo.text import clean_name, differences, is_chinese, lookalike

LANGUAGES = {"zh": "Chinese", "en": "English"}
TEMPLATES = {"zh": "这是一张{class_name}的图片", "en": "a photo of a {class_name}"}


def read_class_texts(path: str, classes: list[str]) -> list[list[str]]:
    """Read the descriptions of every class, in the order of ``classes``.

    Args:
        path: UTF-8 JSON file, ``{class name: sentence or list of sentences}``.
        classes: Class names; both sides are compared after ``clean_name``.

    Raises:
        DataError: The file has another form, describes an unknown class, or omits a class.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a JSON object {{class name: description}}, not {json_kind(content)}")
    texts: dict[str, list[str]] = {}
    keys: dict[str, str] = {}
    classes = [clean_name(name) for name in classes]
    for key, value in content.items():
        name = clean_name(key)
        if name in texts:
            raise DataError(f"{path}: class '{name}' is described twice: {differences(keys[name], key)}. Give several sentences as a list")
        keys[name] = key
        texts[name] = _sentences(f"{path}: class '{name}'", value)
    unknown = [name for name in texts if name not in set(classes)]
    missing = [name for name in classes if name not in texts]
    if unknown:
        candidates = missing or classes
        raise DataError(
            f"{path}: describes '{unknown[0]}', but there is no such class folder.{did_you_mean(unknown[0], candidates)}"
            f"{lookalike(unknown[0], candidates)} Classes{' without a description' if missing else ''}: {shortened(candidates)}"
        )
    if missing:
        raise DataError(f"{path}: no description for class {shortened([repr(name) for name in missing])}. Add one sentence for each")
    return [texts[name] for name in classes]


def texts_from_template(template: str, classes: list[str], where: str = "data.dataset.template") -> list[list[str]]:
    """One sentence per class: ``template`` with ``{class_name}`` replaced.

    Args:
        template: Text that contains ``{class_name}``.
        classes: Class names.
        where: Owner of the template, for messages.

    Raises:
        ConfigError: The template does not contain ``{class_name}``, or has anything else in braces.

    >>> texts_from_template('这是一张{class_name}的图片', ['猫'])
    [['这是一张猫的图片']]
    """
    try:
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"{where}: {template!r} has unpaired braces ({error}). Write {{class_name}}") from error
    fields = {name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") for name, spec, conversion in parts}
    if fields != {"class_name"}:
        other = [name for name in fields if name != "class_name"]
        what = f"contains {{{other[0]}}}" if other else "does not contain {class_name}"
        raise ConfigError(f"{where}: {template!r} {what}. Write {{class_name}} where the class name goes, and nothing else in braces")
    return [[template.format(class_name=name)] for name in classes]


def texts_from_templates(templates: Sequence[str], classes: list[str], where: str) -> list[list[str]]:
    """One sentence per class and template, in order; see ``texts_from_template``."""
    by_template = [texts_from_template(template, classes, where) for template in templates]
    return [[sentence for (sentence,) in of_class] for of_class in zip(*by_template, strict=True)]


def default_template(names: Sequence[str], languages: Sequence[str]) -> tuple[str, str]:
    """The default template for class captions, and the reason for the choice.

    Args:
        names: Class names.
        languages: Languages of the text tower, ``'zh'`` or ``'en'``; with none or several, the class names decide.

    >>> default_template(['cat'], ('zh',))
    ('这是一张{class_name}的图片', 'as the text tower reads Chinese')
    >>> default_template(['猫'], ())
    ('这是一张{class_name}的图片', 'as the class names are Chinese')
    """
    if len(languages) == 1:
        return TEMPLATES[languages[0]], f"as the text tower reads {LANGUAGES[languages[0]]}"
    chinese = any(map(is_chinese, names))
    return TEMPLATES["zh" if chinese else "en"], f"as the class names are {'' if chinese else 'not '}Chinese"


def _sentences(where: str, value: object) -> list[str]:
    sentences = [value] if isinstance(value, str) else value
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise DataError(f"{where}: must be a sentence or a list of sentences, not {json_kind(value)}")
    if not sentences or not all(sentence.strip() for sentence in sentences):
        raise DataError(f"{where}: empty description. Write a sentence, or remove the file and use a template")
    return sentences
