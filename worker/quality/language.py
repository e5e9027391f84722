"""Which language a text is in, by its script and its commonest words. No model, no data files."""

# ruff: noqa: RUF001 - letters of other scripts are the data of this module
from __future__ import annotations

import re
from collections import Counter

_READ_CHARS = 2_000
_MIN_HITS = 3
"""Fewer common words than this prove nothing."""
_MIN_DISTINCT_HITS = 2
_MIN_LETTERS = 6

_COMMON_WORDS = {
    "en": "the of and to in is that it was for on are with as be this by have from at which but or an were their",
    "de": "der die und das ist nicht ein eine zu den mit von auf dem sich des für auch wird im es sind als bei",
    "fr": "le la les de des et est une un que qui dans pour pas sur au avec ce il du sont par plus cette vous",
    "es": "el la los las de y que en es un una por con para se del lo como más pero está son al su este",
    "it": "il di che e la è un una per non sono con del della le gli si da nel come anche più alla questo dei",
    "pt": "o a os as de que e é do da em um uma para não com no na por mais se como dos foi são você",
    "nl": "de het een en van is dat in op te zijn niet met voor aan er ook als bij wordt door deze maar naar",
    "sv": "och att det är en som på för av med till den inte har om ett de var jag kan från eller så",
    "da": "og at det er en som på for af med til den ikke har om et jeg kan fra efter blev mig hvad nogle meget bliver",
    "no": "og at det er en som på for av med til den ikke har om et jeg kan fra etter ble meg hva noen mye blir",
    "fi": "ja on ei että se oli hän mutta joka kun niin myös ovat tai kuin sen olla tämä voi mukaan",
    "pl": "i w na nie się z do że jest to jak o co po za od ale przez są dla może być oraz lub",
    "cs": "a je se na to že v s z o jako by ale do které jsou nebo pro jeho byl může také při",
    "ro": "și de la în a cu pe nu este care un o din mai pentru sunt ce sau că au fost prin",
    "hu": "a az és hogy nem is egy ez van meg de csak mint már vagy volt azt el lesz amely",
    "tr": "ve bir bu da de için ile olarak çok daha gibi olan en ne var kadar sonra değil ya her",
    "id": "yang dan di dengan untuk dari ini itu tidak pada adalah dalam ke akan sebagai atau oleh juga bisa",
    "vi": "là và của có không được một cho các trong với những người này đã khi để từ như nhiều",
    "ru": "и в не на что с он как это по но из у за от так же для его к все или она",
    "uk": "і в не на що з як це та до за але його від є для у або також який вони",
    "bg": "и на да се не от е за с в като това са при които си той или по има",
    "ar": "في من على أن إلى هذا التي عن مع كان هذه ما لا أو الذي ذلك بين كل بعد",
    "fa": "در به از که این را با است برای آن یک های خود تا بر هم نیز شد شود",
    "ur": "کے میں کی ہے اور سے کا کو پر نے یہ کہ ہیں اس بھی کر جو ایک نہیں",
    "he": "של את על לא הוא זה עם היא כי גם או אבל יש אם כל מה אני הם יותר",
    "sw": "ya wa na kwa ni katika za kwamba la hii huu yake watu sana pia kama lakini au hiyo vya mtu wake kuwa",
    "hi": "के में की है और से का को पर ने यह कि हैं इस भी कर जो एक नहीं",
}
_WORDS_OF = {code: frozenset(words.split()) for code, words in _COMMON_WORDS.items()}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {
    word: tuple(code for code, words in _WORDS_OF.items() if word in words)
    for word in frozenset().union(*_WORDS_OF.values())
}

_WORD = re.compile(r"[^\W\d_]+(?:[\u0900-\u0903\u093a-\u094f]+[^\W\d_]*)*")
_KANA = re.compile(r"[\u3041-\u30fa]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_ONLY_LANGUAGE_OF_SCRIPT = {
    "ko": re.compile(r"[\uac00-\ud7a3]"),
    "th": re.compile(r"[\u0e01-\u0e3a]"),
    "el": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile(r"[\u05d0-\u05ea]"),
    "bn": re.compile(r"[\u0985-\u09b9]"),
    "pa": re.compile(r"[\u0a05-\u0a39]"),
    "gu": re.compile(r"[\u0a85-\u0ab9]"),
    "ta": re.compile(r"[\u0b85-\u0bb9]"),
    "te": re.compile(r"[\u0c05-\u0c39]"),
    "kn": re.compile(r"[\u0c85-\u0cb9]"),
    "ml": re.compile(r"[\u0d05-\u0d3a]"),
    "ka": re.compile(r"[\u10d0-\u10ff]"),
    "hy": re.compile(r"[\u0531-\u0587]"),
}


def detect(text: str) -> str | None:
    """Return the ISO 639-1 code of the language that most of the text is in, or None where that is not certain.

    Sees: the languages of the table above and, by script alone, Chinese, Japanese, Korean, Thai, Greek and Hebrew, in
    the first 2,000 characters. Cannot see: texts of a few words, languages not in the table (they come out as None,
    or rarely as a close relative), and which of two languages a half-and-half text "is" (None).
    """
    sample = text[:_READ_CHARS]
    if not sample.isascii() and (by_script := _by_script(sample)) is not None:
        return by_script
    words = _WORD.findall(sample.lower())
    found = Counter(word for word in words if word in _LANGUAGES_OF)
    hits: Counter[str] = Counter()
    for word, times in found.items():
        for code in _LANGUAGES_OF[word]:
            hits[code] += times
    if not hits:
        return None
    best, *others = (code for code, _ in hits.most_common(2))
    # Ordinary prose in any of these languages has well above one common word in eight; a foreign text borrows fewer.
    if hits[best] < max(_MIN_HITS, len(words) / 8):
        return None
    if others:
        # Relatives share many words (Danish and Norwegian nearly all): only those that tell them apart decide.
        ours = sum(found[word] for word in _WORDS_OF[best] - _WORDS_OF[others[0]])
        theirs = sum(found[word] for word in _WORDS_OF[others[0]] - _WORDS_OF[best])
        if ours < max(_MIN_DISTINCT_HITS, 2 * theirs):
            return None
    return best


def _by_script(sample: str) -> str | None:
    letters = sum(map(str.isalpha, sample))
    if letters < _MIN_LETTERS:
        return None
    kana, han = len(_KANA.findall(sample)), len(_HAN.findall(sample))
    if (kana + han) * 2 > letters:
        # Japanese prose is a third kana or more; Chinese has none but for a borrowed name.
        return "ja" if kana * 8 > han else "zh"
    for code, script in _ONLY_LANGUAGE_OF_SCRIPT.items():
        if len(script.findall(sample)) * 2 > letters:
            return code
    return None
