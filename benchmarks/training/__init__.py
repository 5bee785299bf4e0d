"""Whole training steps of ResNets and GPTs: ours beside the loops that tutorials write.

What is compared runs in processes of their own that take steps in turn (``paced``): the loops
(``plain_images``, ``plain_text``) and the product (``product``). ``cells`` says what they train,
``turns`` times them, ``pruning_cost`` is pruning's part; the other modules are sections.
"""
