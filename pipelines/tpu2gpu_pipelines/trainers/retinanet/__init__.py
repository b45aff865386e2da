"""RetinaNet in plain Keras: JPEG bytes in, boxes out.

- configuration: the two sizes, `tiny` and `resnet50-fpn-640`
- network: ResNet, feature pyramid, class and box heads
- anchors: the boxes that the heads speak of, and how boxes are written relative to them
- losses: focal and smooth L1
- images: JPEG bytes to the network's input, the same in training and in serving
- data: TFRecords to batches of images and targets
- serving: the signature, and its export as a SavedModel
- estimator_export: the same as an Estimator of TensorFlow 1 would export it
- training: `run_fn`, for TFX's Trainer

Source: T.-Y. Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017.
"""
