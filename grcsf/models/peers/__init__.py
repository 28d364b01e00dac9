"""The other networks of Table 1.

deeplabv3, swin_unet, trans_unet, spin, trans_fuse, ut_net, sam.
"""
