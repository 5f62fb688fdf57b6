"""The figures of a study: {name: (title, caption)}, and what pages know of their files. The stage that draws them and
the reports read this; it loads no Matplotlib."""

from __future__ import annotations

PIXELS = 114  # of CSS an inch: the smallest letters, of 7 points, are then 11 pixels high
DARK = "-dark"  # ends the name of the drawing for a dark ground

FIGURES = {
    "groups": (
        "Accuracy by class group",
        "Accuracy on head, mid and tail classes (the authors' cuts) of the test set at the last epoch, in %; of "
        "networks with two heads the average of both (bars: mean over seeds, whiskers: standard error, dots: "
        "seeds).",
    ),
    "experts": (
        "The two experts by class group (Table S.3)",
        "Accuracy of DeiT-LT's two heads and of their average on head, mid and tail classes (the authors' cuts) "
        "of the test set at the last epoch, in % (bars: mean over seeds, whiskers: standard error, dots: seeds).",
    ),
    "entropy": (
        "Teacher entropy in and out of distribution (Fig. 3)",
        "Entropy of the teacher's softmax for the images it was trained on (in) and for the student's strong, "
        "mixed views (out), in nats; dotted lines mark the means. Share of images on a logarithmic axis: filled, "
        "all seeds together; thin, each seed.",
    ),
    "taught": (
        "What the student sees and its teacher says",
        "A training image of the most frequent, the middle and the rarest class; its view in the student's first "
        "epoch, strongly augmented and mixed with another image, under the label that goes with it; beneath, what the "
        "teacher answers to that view, with its probability. The raw image is shown to neither. First seed.",
    ),
    "cls_dist_distance": (
        "Distance between CLS and DIST (Fig. 4a)",
        "1 - cosine similarity of the student's final CLS and DIST tokens over the training views of an epoch "
        "(line: mean over seeds, band: standard error).",
    ),
    "attention_distance": (
        "Mean attention distance (Fig. 4b)",
        "Mean distance in pixels over which each head of the Vision Transformer attends, on test images of tail "
        "classes; heads sorted ascending within a block; solid with full markers: block 1, dashed with hollow "
        "ones: block 2. Rows and columns of CLS and DIST are left out (mean over seeds, band: standard error).",
    ),
    "attention_distance_train": (
        "Mean attention distance on training images (Fig. S.3)",
        "Mean distance in pixels over which each head of the Vision Transformer attends, on training images of "
        "tail classes under the evaluation transform; heads sorted ascending within a block; solid with full "
        "markers: block 1, dashed with hollow ones: block 2. Rows and columns of CLS and DIST are left out (mean "
        "over seeds, band: standard error).",
    ),
    "feature_rank": (
        "Feature rank by block (Fig. 4c and S.4)",
        "Number of principal components of a Vision Transformer's tokens, of test images of all classes, that "
        "hold 99 % of the energy of the tail classes' tokens, centred by the mean of all classes (line: mean over "
        "seeds, band: standard error). The uncentred variant is in the CSV.",
    ),
    "rollout": (
        "Attention rollout (Fig. 5)",
        "Attention rollout of the CLS and DIST tokens on test images of tail classes: heads averaged, identity "
        "added, rows normalised, blocks multiplied, each map divided by its maximum. First seed, last epoch; "
        "beneath a map the class that this output predicts (✓ right, ✗ wrong).",
    ),
    "rollout_mean": (
        "Attention rollout, CLS and DIST together (Fig. S.2)",
        "Attention rollout on test images of tail classes: the mean of an image's CLS and DIST maps, divided by "
        "its maximum; a plain ViT has the CLS map alone. First seed, last epoch; beneath a map the class that the "
        "average of the heads predicts (✓ right, ✗ wrong).",
    ),
    "reconstructions": (
        "What a masked autoencoder reconstructs",
        "Test images at the views' size; what the encoder sees of them, hidden patches grey; and the decoder's "
        "picture of the hidden patches, each with its own mean and contrast put back. First seed, last epoch.",
    ),
    "training_loss": (
        "Training loss (Fig. S.1)",
        "Mean loss over the training views of an epoch (line: mean over seeds, band: standard error). Losses of "
        "different kinds are not on one scale: compare the shapes.",
    ),
    "test_accuracy": (
        "Test accuracy during training (Fig. S.5)",
        "Averaged head, top-1 on the test set at the epochs that were evaluated (line: mean over seeds, band: "
        "standard error).",
    ),
    "virtual_examples": (
        "Virtual examples by class group (DiVE Fig. 1)",
        "A class' virtual examples are the teacher's softmax for it, summed over all training images without "
        "augmentation, here at temperature 1; means over the classes of a group by the count rule. INPUT: the "
        "labels themselves (mean over seeds, bars: standard error). The printed figure was not read off.",
    ),
    "virtual_examples_settings": (
        "Virtual examples by temperature and power (DiVE Fig. 6)",
        "Virtual examples of a class (the teacher's softmax for it, summed over all training images without "
        "augmentation), means over the classes of a group, at temperatures 1 to 10 and 20, with and without the "
        "power (mean over seeds, whiskers: standard error). Shaded: what the rule of thumb takes, the smallest "
        "temperature from 1 to 10 at which few-shot classes have more than many-shot ones.",
    ),
    "virtual_example_curves": (
        "Virtual examples by class (DiVE Fig. 4)",
        "Virtual examples of each class (the teacher's softmax for it, summed over all training images), classes "
        "from the most frequent to the rarest, at temperature 2 without a power; each point is the mean of about "
        "a twentieth of the classes around it (line: mean over seeds, band: standard error). The printed curves "
        "were not read off, nor is the paper's smoothing stated.",
    ),
    "virtual_example_curves_tau": (
        "Virtual examples by class and temperature (DiVE Fig. 5)",
        "Virtual examples of each class (the teacher's softmax for it, summed over all training images), classes "
        "from the most frequent to the rarest, at several temperatures; each point is the mean of about a "
        "twentieth of the classes around it (line: mean over seeds, band: standard error). INPUT is the labels "
        "themselves.",
    ),
    "tsne": (
        "t-SNE of features (DiVE Fig. 8)",
        "t-SNE of the features before the classifier, of at most 100 test images of one class of each of ten "
        "frequency groups, or of all where there are no more than ten; the legend gives the class' training "
        "images. First seed, perplexity 30, begun from principal components.",
    ),
    "predictions": (
        "Test images on which DiVE alone is right or wrong (DiVE Fig. 9)",
        "Test images that DiVE answers rightly and the networks above it wrongly; then those of the opposite kind, as "
        "both can be found for any networks. Of each kind the first ones in the order of the test set; the paper's are "
        "hand-picked. Beneath an image its class and what each network says, bold where right. First seed, last epoch.",
    ),
    "head_smoothing": (
        "Two classes, the head smoothed (DiVE Figs 3 and 7)",
        "CIFAR-10 from JPEG copies, our recipe. Images of the head class give epsilon of their label to the tail "
        "class; R is then the tail's share of labels over the head's. Accuracy on the test images of both classes "
        "and of each (mean and standard deviation over seeds). The printed curves were not read off.",
    ),
    "sweep": (
        "Accuracy over a setting (CBD Figs 2 and 3)",
        "Top-1 on the study's test list at the last epoch (mean over seeds, bars: standard error). Where that list is "
        "the test set and no validation list, the figure is exploratory: nothing is chosen by it. The values are "
        "ours; of the printed figures neither they nor the curves were read off.",
    ),
    "neighbours": (
        "Nearest training images under teacher and student (CBD Fig. 4)",
        "Test images and their nearest training images by cosine of the features before the classifier, without "
        "augmentation, nearest first. Teacher: all teachers of the student, their features joined as in training. "
        "Solid frame: of the test image's class; dashed frame: of another one, whose number stands in it. Shown "
        "is the first test image of each group's first classes, first seed; the paper's are hand-picked.",
    ),
    "feature_drift": (
        "Drift of a student's features from its teachers' (ours)",
        "1 - cosine of the student's feature and its target, the features of its teachers joined as in training, "
        "of training and of test images without augmentation: means over the classes of a group (mean over seeds, "
        "bars: standard error). 0 is the same direction.",
    ),
}
