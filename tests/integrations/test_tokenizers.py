"""Subwords, trained here or by a tokenizer as it is; run by name, since it needs the package tokenizers."""

import pickle

import numpy as np
import polytask as pt
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

TEXTS = ["the cats sat, happily", "שלום the dogs run", "cats and dogs", ""] * 8
MOOD = np.array([1, 0, 1, 0] * 8)


def made(text, **more):
    tasks = [pt.Task("mood", classes=2), pt.Task("long", classes=2, per="subwords")]
    return pt.MultiTaskModel(pt.Inputs(text=text), tasks=tasks, encoder=pt.encoder.Window([16]), **more)


def whole():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.UnigramTrainer(
        vocab_size=40, show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "[CLS]"]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def test_trained_subwords_lie_end_to_end_in_their_text():
    text = pt.Text("subwords", max_size=60).fit(TEXTS)
    assert text.size <= 60
    assert text.vocabulary[0] == "[UNK]"
    for row, tokens in zip(TEXTS, text.tokens(TEXTS), strict=True):
        assert "".join(tokens).replace("\u2581", " ").strip() == row
    assert text.tokens(["Qqq"])[0].count("[UNK]") >= 1
    assert pt.Text("subwords", max_size=60, lower=True).fit(TEXTS).tokens(["THE cats"]) == text.tokens(["the cats"])


def test_a_model_of_subwords_learns_and_is_saved(tmp_path):
    text = pt.Text("subwords", max_size=60).fit(TEXTS)
    labels = [[len(token) > 2 for token in row] for row in text.tokens(TEXTS)]
    model = made(text)
    history = pt.Trainer(model, lr=0.05).fit((TEXTS, {"mood": MOOD, "long": labels}), epochs=20, progress=False)
    assert history["long/accuracy"][-1] > 0.95
    model.save(tmp_path / "m.safetensors")
    for again in (pt.MultiTaskModel.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict(TEXTS)["mood"], model.predict(TEXTS)["mood"])
        assert repr(again.inputs) == repr(model.inputs)


@pytest.mark.parametrize("kind", ["itself", "of transformers"])
def test_a_tokenizer_is_taken_as_it_is_without_padding_cuts_and_special_tokens(kind):
    tokenizer = whole()
    bare = [tokenizer.encode(row, add_special_tokens=False) for row in TEXTS]
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(2)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 1)])

    class Fast:
        backend_tokenizer = tokenizer

    text = pt.Text(tokenizer if kind == "itself" else Fast())
    assert text.tokens(TEXTS) == [each.tokens for each in bare]
    assert text.vocabulary == [tokenizer.id_to_token(code) for code in range(tokenizer.get_vocab_size())]
    read = text.read(TEXTS, "x")
    assert read.values[:, 0].tolist() == [code for each in bare for code in each.ids]
    assert made(text).predict(TEXTS)["long"][0].shape == (len(bare[0].ids), 2)
    assert tokenizer.padding is not None  # which is the caller's


def test_what_is_a_matter_of_the_tokenizer_is_refused():
    with pytest.raises(ValueError, match="`lower` is a matter of the tokenizer"):
        pt.Text(whole(), lower=True)
