"""Which ImageNet index a suite's own labels mean: published tables, and nothing derived from an order of folders.

Indices are positions among the 1,000 sorted wnids. The sources are named with each table.
"""

from __future__ import annotations


def _indices(text: str) -> tuple[int, ...]:
    """`1 3-5` to (1, 3, 4, 5)."""
    ranges = [part.partition("-")[::2] for part in text.split()]
    return tuple(i for first, last in ranges for i in range(int(first), int(last or first) + 1))


def _pairs(text: str) -> list[tuple[str, str]]:
    """`name=value name=value`."""
    return [(name, value) for name, _, value in (pair.partition("=") for pair in text.split())]


IMAGENET_A = _indices(
    "6 11 13 15 17 22-23 27 30 37 39 42 47 50 57 70-71 76 79 89-90 94 96-97 99 105 107-108 110 113 124-125 130 132 "
    "143-144 150-151 207 234-235 254 277 283 287 291 295 298 301 306-311 313-315 317 319 323-324 326-327 330 334-336 "
    "347 361 363 372 378 386 397 400-402 404 407 411 416-417 420 425 428 430 437-438 445 456-457 461-462 470 472 483 "
    "486 488 492 496 514 516 528 530 539 542-543 549 552 557 561-562 569 572-573 575 579 589 606-607 609 614 626-627 "
    "640-643 658 668 677 682 684 687 701 704 719 736 746 749 752 758 763 765 768 773-774 776 779-780 786 792 797 "
    "802-804 813 815 820 823 831 833 835 839 845 847 850 859 862 870 879-880 888 890 897 900 907 913 924 932-934 937 "
    "943 945 947 951 954 956-957 959 971-972 980-981 984 986-988 "
)
"""200 classes. hendrycks/natural-adv-examples eval_many_models.py; the testbed of modestyachts agrees."""

IMAGENET_O = _indices(
    "1 51 70 79 89-90 107 109 117 149 327-328 341 363 392 397-398 401 411 416 418-420 424 434 439 447 451 455 459 462 "
    "464-465 470 475 489 491 494 496 498 507 512 517 522 525 530 533 537 539-540 545 549-552 554 556 558-559 562-563 "
    "567 574 580 583 588-589 593 599 604 606-607 611 613 621 624 626 629 633 635 640-646 648 666 669 674 677-680 684 "
    "686-688 691 694 699 703 710 712 714 716 720 722-723 729 731 736 738 740-741 743 747 749 753 758 761 767 769 "
    "771-773 778 783-784 789 791 793-795 797 800 802 804 807 811 813 815 827-828 830 833 842-845 852-855 857-859 870 "
    "877 879 886 891 897-898 900 902 906 910-911 918 920 929 931-932 934-935 937-939 941 943 945 948-951 953-955 957 "
    "960 962-963 965 971 980 987-988 996 "
)
"""200 classes. hendrycks/natural-adv-examples eval_many_models.py."""

IMAGENET_R = _indices(
    "1-2 4 6 8-9 11 13 22-23 26 29 31 39 47 63 71 76 79 84 90 94 96-97 99-100 105 107 113 122 125 130 132 144-145 "
    "147-148 150-151 155 160-163 171-172 178 187 195 199 203 207-208 219 231-232 234-235 242 245 247 250-251 254 "
    "259-260 263 265 267 269 276-277 281 288-289 291-293 296 299 301 308-311 314-315 319 323 327 330 334-335 337-338 "
    "340-341 344 347 353 355 361-362 365-368 372 388 390 393 397 401 407 413-414 425 428 430 435 437 441 447-448 457 "
    "462-463 469-472 476 483 487 515 546 555 558 570 579 583 587 593-594 596 609 613 617 621 629 637 657-658 701 717 "
    "724 763 768 774 776 779-780 787 805 812 815 820 824 833 847 852 866 875 883 889 895 907 928 931-934 936-937 943 "
    "945 947-949 951 953-954 957 963 965 967 980-981 983 988 "
)
"""200 classes. hendrycks/imagenet-r eval.py; the testbed of modestyachts agrees."""

SIXTEEN: dict[str, tuple[int, ...]] = {
    "airplane": _indices("404"),
    "bear": _indices("294-297"),
    "bicycle": _indices("444 671"),
    "bird": _indices("8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145"),
    "boat": _indices("472 554 625 814 914"),
    "bottle": _indices("440 720 737 898-899 901 907"),
    "car": _indices("436 511 817"),
    "cat": _indices("281-286"),
    "chair": _indices("423 559 765 857"),
    "clock": _indices("409 530 892"),
    "dog": _indices("152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268"),
    "elephant": _indices("385-386"),
    "keyboard": _indices("508 878"),
    "knife": _indices("499"),
    "oven": _indices("766"),
    "truck": _indices("555 569 656 675 717 734 864 867"),
}
"""The 16 entry-level categories of the cue-conflict images. bethgelab/model-vs-human, helper/human_categories.py."""

IMAGENET_D: dict[str, tuple[int, ...]] = {
    name: tuple(map(int, indices.split("/")))
    for name, indices in _pairs(
        "alarm_clock=409/530 backpack=414 banana=954 band_aid=419 bath_towel=434 beer_bottle=440 bench=703 "
        "bicycle=444/671 binder_closed=446 bottle_cap=455 bread_loaf=930 broom=462 bucket=463 can_opener=473 "
        "candle=470 cellphone=487 chair=423/559/765 cleaver=499 clothes_hamper=588 coffee_or_french_press=550 "
        "combination_lock=507 computer_mouse=673 desk_lamp=846 dishcloth=533 doormat=539 dress_shoe_men=630 "
        "drill=740 drying_rack_for_plates=729 envelope=549 fan=545 frying_pan=567 gown=578 hair_dryer=589 hammer=587 "
        "helmet=518/560 iron_for_clothes=606 jeans=608 keyboard=508 ladle=618 lampshade=619 laptop_open=620 "
        "lemon=951 letter_opener=623 lighter=626 lipstick=629 matchstick=644 measuring_cup=647 microwave=651 "
        "mixing_or_salad_bowl=659 monitor=664 mug=504 nail_fastener=677 necklace=679 orange=950 padlock=695 "
        "paintbrush=696 paper_towel=700 pen=418/563/749 pill_bottle=720 pillow=721 pitcher=725 plastic_bag=728 "
        "plate=923 plunger=731 pop_can=737 portable_heater=811 printer=742 remote_control=761 ruler=769 "
        "running_shoe=770 safety_pin=772 salt_shaker=773 sandal=774 screw=783 shopping_basket=790 shovel=792 "
        "skirt=601/655/689 sleeping_bag=797 soap_dispenser=804 sock=806 soup_bowl=809 spatula=813 speaker=632 "
        "still_camera=732/759 strainer=828 suit_jacket=834 sunglasses=837 sweater=841 swimming_trunks=842 "
        "t_shirt=610 tea_cup=968 teapot=849 teddy_bear=850 tennis_racket=752 tie=457/906 toaster=859 "
        "toilet_paper_roll=999 trash_bin=412 tray=868 tv=851 umbrella=879 vacuum_cleaner=882 vase=883 wallet=893 "
        "watch=531 water_bottle=898 weight_exercise=543 weight_scale=778 wheel=479/694 whistle=902 wine_bottle=907 "
        "winter_glove=658 wok=909 "
    )
}
"""113 folders. chenshuang-zhang/imagenet_d, preprocessing/imgnet_d2imgnet_id.txt."""

FACTORS = (
    *("pose", "background", "pattern", "color", "smaller", "shape", "partial_view", "subcategory", "texture", "larger"),
    *("darker", "object_blocking", "person_blocking", "style", "brighter", "multiple_objects"),
)
"""What ImageNet-X says of an image. facebookresearch/imagenetx, imagenet_x/utils.py."""

IN9: dict[str, tuple[int, ...]] = {
    "00_dog": _indices("151-170 173-268 "),
    "01_bird": _indices("7-24 87-100 127-146 "),
    "02_wheeled vehicle": _indices(
        "407-408 428 436 444 468 511 547 555 561 565 569 573 586 603 609 612 627 656 661 665 670-671 675 690 705 "
        "717 734 751 757 791 802-803 817 820 829 847 864 866-867 870 880 "
    ),
    "03_reptile": _indices("33-68 "),
    "04_carnivore": _indices("269-280 286-299 356-362 387-388 "),
    "05_insect": _indices("300-326 "),
    "06_musical instrument": _indices(
        "401-402 420 432 486 494 513 541 546 558 566 577 579 593-594 641-642 683-684 687 699 776 822 875 881 889 "
    ),
    "07_primate": _indices("365-384 "),
    "08_fish": _indices("0-6 389-397 "),
}
"""Folder of the Backgrounds Challenge to the indices that count as its class; the other 630 are wrong for every class.
MadryLab/backgrounds_challenge in_to_in9.json."""

PERTURBATIONS = {
    **dict.fromkeys(("gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness"), 31),
    "translate": 41,
    "rotate": 31,
    "tilt": 31,
    "scale": 31,
    **dict.fromkeys(("speckle_noise", "gaussian_blur", "spatter", "shear"), 31),
}
"""ImageNet-P: the frames of a video of each perturbation; the last four are what its authors call validation data.

hendrycks/robustness, ImageNet-P/create_p/make_imagenet_p.py.
"""
PERTURBATION_SIDE = 224
"""Pixels of a frame; the same file."""

OBJECTNET: dict[str, tuple[int, ...]] = {
    folder: tuple(map(int, indices.split("/")))
    for folder, indices in _pairs(
        "alarm_clock=409/530 backpack=414 banana=954 band_aid=419 basket=790 beer_bottle=440 bench=703 "
        "bicycle=444/671 binder_closed=446 bottle_cap=455 bread_loaf=930 broom=462 bucket=463 "
        "butchers_knife=499 can_opener=473 candle=470 cellphone=487 chair=423/559/765 clothes_hamper=588 "
        "coffee_french_press=550 combination_lock=507 computer_mouse=673 desk_lamp=846 doormat=539 dress=578 "
        "dress_shoe_men=630 drill=740 drinking_cup=968 drying_rack_for_dishes=729 envelope=549 fan=545 "
        "frying_pan=567 full_sized_towel=434 hair_dryer=589 hammer=587 hand_towel_or_rag=533 helmet=518/560 "
        "iron_for_clothes=606 jeans=608 keyboard=508 ladle=618 lampshade=619 laptop_open=620 lemon=951 "
        "letter_opener=623 lighter=626 lipstick=629 match=644 measuring_cup=647 microwave=651 "
        "mixing_salad_bowl=659 monitor=664 mug=504 nail_fastener=677 necklace=679 orange=950 padlock=695 "
        "paintbrush=696 paper_towel=700 pen=418/563/749 pill_bottle=720 pillow=721 pitcher=725 plastic_bag=728 "
        "plate=923 plunger=731 pop_can=737 portable_heater=811 printer=742 remote_control=761 ruler=769 "
        "running_shoe=770 safety_pin=772 salt_shaker=773 sandal=774 screw=783 shovel=792 skirt=601/655/689 "
        "sleeping_bag=797 soap_dispenser=804 sock=806 soup_bowl=809 spatula=813 speaker=632 "
        "still_camera=732/759 strainer=828 stuffed_animal=850 suit_jacket=834 sunglasses=837 sweater=841 "
        "swimming_trunks=842 t-shirt=610 teapot=849 tennis_racket=752 tie=457/906 toaster=859 "
        "toilet_paper_roll=999 trash_bin=412 tray=868 tv=851 umbrella=879 vacuum_cleaner=882 vase=883 "
        "wallet=893 watch=531 water_bottle=898 weight_exercise=543 weight_scale=778 wheel=479/694 whistle=902 "
        "wine_bottle=907 winter_glove=658 wok=909 "
    )
}
"""The 113 of 313 folders of ObjectNet that overlap with ImageNet, 125 indices. The mappings of objectnet-1.0 and of
modestyachts/imagenet-testbed give the same partition; those of a class stand in ascending order."""

SI_SCORE: dict[str, int] = {
    label: int(index)
    for label, index in _pairs(
        "ambulance=407 artichoke=944 backpack=414 bagel=931 banana=954 beaker=438 binoculars=447 broccoli=937 "
        "burrito=965 candle=470 canoe=472 cello=486 cucumber=943 dumbbell=543 envelope=549 flowerpot=738 "
        "flute=558 goose=99 guacamole=924 hamster=333 hedgehog=334 hippopotamus=344 ipod=605 jeans=608 kite=21 "
        "koala=105 lemon=951 lighthouse=437 limousine=627 lipstick=629 magpie=18 miniskirt=655 missile=657 "
        "mushroom=947 orange=950 ostrich=9 otter=360 pig=341 pillow=721 pizza=963 pomegranate=957 pretzel=932 "
        "printer=742 racket=752 ruler=769 saxophone=776 screwdriver=784 skunk=361 snowmobile=802 sock=806 "
        "sombrero=808 starfish=327 strawberry=949 taxi=468 teapot=849 toaster=859 torch=862 vase=883 wok=909 "
        "zebra=340 zucchini=939 "
    )
}
"""The 61 labels of the released SI-Score sets. google-research/si-score label_str_to_imagenet_classes.py."""
