"""A classifier of two label columns behind a StandardScaler."""

from polytask.sklearn import MultiTaskClassifier
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = make_multilabel_classification(n_samples=400, n_features=12, n_classes=2, random_state=0)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
pipeline = make_pipeline(StandardScaler(), MultiTaskClassifier(epochs=20, random_state=0))
pipeline.fit(x_train, y_train)
prediction = pipeline.predict(x_test)
assert prediction.shape == y_test.shape
assert (prediction == y_test).mean() > 0.7
