"""The files that are laid around converted models for a server.

serving_folder: all of it.
readme: the folder's README.
triton, triton_model: a model repository, and the model.py of its python back end.
tf_serving: a version folder for TensorFlow Serving.
kserve: an InferenceService.
"""
