# ruff: noqa: RUF001 - letters of many scripts are the data of these tests
from __future__ import annotations

import pytest

from worker.quality.language import detect

SENTENCES = {
    "en": "The cat is in the house and it does not want to go out, because the rain has been falling all day.",
    "de": "Die Katze ist im Haus und will nicht in den Garten, weil der Regen auf das Dach fällt.",
    "fr": "Le chat est dans la maison et il ne veut pas sortir, parce que la pluie tombe sur le jardin.",
    "es": "El gato está en la casa y no quiere salir porque la lluvia cae sobre el jardín desde ayer.",
    "it": "Il gatto è nella casa e non vuole uscire perché la pioggia cade sul giardino, come ieri.",
    "pt": "O gato está em casa e não quer sair, porque a chuva cai no jardim e os dias são mais frios.",
    "nl": "De kat is in het huis en wil niet naar buiten, omdat het door de regen te nat is voor een kat.",
    "sv": "Katten är i huset och vill inte gå ut, för att det har regnat på trädgården och den är våt.",
    "da": "Katten er i huset og vil ikke gå ud efter regnen, og jeg blev våd, hvad der er meget trist.",
    "no": "Katten er i huset og vil ikke gå ut etter regnet, og jeg ble våt, noe som er mye verre for meg.",
    "pl": "Kot jest w domu i nie chce wyjść, bo od rana pada na ogród, a to się mu nie podoba.",
    "ru": "Кот в доме и не хочет выходить, так как на улице дождь, и это его не радует.",
    "uk": "Кіт у хаті і не хоче виходити, бо на вулиці дощ, а це його не тішить, як і від ранку.",
    "zh": "猫在房子里，不想出去，因为外面一直在下雨。",
    "ja": "猫は家の中にいて、雨が降っているので外に出たくありません。",
    "ko": "고양이는 집 안에 있고 비가 와서 밖에 나가고 싶어하지 않습니다.",
    "el": "Η γάτα είναι μέσα στο σπίτι και δεν θέλει να βγει έξω.",
    "th": "แมวอยู่ในบ้านและไม่อยากออกไปข้างนอกเพราะฝนตก",
    "he": "החתול נמצא בבית ולא רוצה לצאת החוצה כי יורד גשם.",
    "ar": "القط في البيت ولا يريد أن يخرج من البيت إلى الحديقة لأن المطر ينزل على كل شيء في هذا اليوم.",
    "hi": "बिल्ली घर में है और वह बाहर नहीं जाना चाहती क्योंकि बारिश हो रही है और यह उस को पसंद नहीं है।",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_one_ordinary_sentence_is_enough(code: str) -> None:
    assert detect(SENTENCES[code]) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "42",
        "Paris, Berlin, Madrid, Rome, London, Lisbon, Vienna",
        "def f(x): return x + 1",
        "😀 😀 😀",
        SENTENCES["en"] + " " + SENTENCES["fr"],
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt",
    ],
)
def test_what_is_not_certain_is_unknown(text: str) -> None:
    assert detect(text) is None


def test_a_few_foreign_words_change_nothing() -> None:
    assert detect(SENTENCES["en"] + " This is called Schadenfreude, or 幸災樂禍 in Chinese.") == "en"
