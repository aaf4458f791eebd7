"""Support tickets as text: TfidfVectorizer, sparse features, queue and urgency as strings, a report per task."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import classification_report, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from polytask.sklearn import MultiTaskClassifier

rng = np.random.default_rng(0)
words = {"billing": ["invoice", "refund", "card"], "login": ["password", "account", "locked"], "bug": ["crash", "error", "screen"]}
texts, labels = [], []
for _ in range(600):
    queue = rng.choice(list(words))
    urgent = rng.random() < 0.4
    text = list(rng.choice(words[queue], 3)) + list(rng.choice(["the", "my", "please", "hello"], 4)) + ["asap"] * urgent
    rng.shuffle(text)
    texts.append(" ".join(text))
    labels.append([queue, "high" if urgent else "low"])
labels = np.array(labels)
train_x, test_x, train_y, test_y = train_test_split(texts, labels, random_state=0)

clf = Pipeline([("tfidf", TfidfVectorizer(ngram_range=(1, 2))), ("net", MultiTaskClassifier(hidden_layer_sizes=(32,), epochs=20, random_state=0))])
clf.fit(train_x, train_y)
predicted = clf.predict(test_x)
assert predicted.shape == test_y.shape and predicted.dtype.kind == "U"
for task, name in enumerate(["queue", "urgency"]):
    print(name, classification_report(test_y[:, task], predicted[:, task]), sep="\n")
assert f1_score(test_y[:, 0], predicted[:, 0], average="macro") > 0.95
proba = clf.predict_proba(["my card refund asap"])
queue = clf.named_steps["net"].classes_[0]
assert queue[proba[0].argmax()] == "billing"
assert clf.classes_[1].tolist() == ["high", "low"] and proba[1][0, 0] > 0.5
