"""What trains a model: settings, epochs over data, what happens between them, and what a run goes on from."""
