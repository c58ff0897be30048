"""What Pocket knows by name: things, places, colours. The one list that scenes, captions, tokenizer and tests share.

Each thing is a plain English name and the character that Google's Noto Color Emoji draws for it; each place is a
background of `core/pocket/backgrounds.py` and the phrases that captions use for it.
"""

from __future__ import annotations

ANIMALS: dict[str, str] = {
    "dog": "🐕", "cat": "🐈", "cow": "🐄", "pig": "🐖", "horse": "🐎", "sheep": "🐑", "goat": "🐐", "rabbit": "🐇",
    "mouse": "🐁", "hamster": "🐹", "fox": "🦊", "bear": "🐻", "panda": "🐼", "koala": "🐨", "tiger": "🐅",
    "lion": "🦁", "leopard": "🐆", "monkey": "🐒", "gorilla": "🦍", "elephant": "🐘", "rhinoceros": "🦏",
    "hippo": "🦛", "giraffe": "🦒", "zebra": "🦓", "camel": "🐪", "kangaroo": "🦘", "llama": "🦙", "deer": "🦌",
    "wolf": "🐺", "hedgehog": "🦔", "bat": "🦇", "frog": "🐸", "turtle": "🐢", "snake": "🐍",
    "crocodile": "🐊", "dinosaur": "🦕", "dragon": "🐉", "whale": "🐋", "dolphin": "🐬", "shark": "🦈",
    "fish": "🐟", "clownfish": "🐠", "blowfish": "🐡", "octopus": "🐙", "crab": "🦀", "lobster": "🦞",
    "shrimp": "🦐", "snail": "🐌", "butterfly": "🦋", "bee": "🐝", "ladybug": "🐞", "spider": "🕷️",
    "penguin": "🐧", "duck": "🦆", "swan": "🦢", "owl": "🦉", "eagle": "🦅", "parrot": "🦜",
    "flamingo": "🦩", "peacock": "🦚", "rooster": "🐓", "chick": "🐥", "turkey": "🦃",
    "unicorn": "🦄",
}  # fmt: skip

FOODS: dict[str, str] = {
    "red apple": "🍎", "green apple": "🍏", "banana": "🍌", "orange fruit": "🍊", "lemon": "🍋", "pear": "🍐",
    "peach": "🍑", "cherry": "🍒", "strawberry": "🍓", "blueberry": "🫐", "grape": "🍇", "watermelon": "🍉",
    "pineapple": "🍍", "kiwi": "🥝", "coconut": "🥥", "avocado": "🥑", "tomato": "🍅",
    "eggplant": "🍆", "potato": "🥔", "carrot": "🥕", "corn": "🌽", "chili": "🌶️", "cucumber": "🥒",
    "broccoli": "🥦", "mushroom": "🍄", "onion": "🧅", "bread": "🍞",
    "croissant": "🥐", "pretzel": "🥨", "pancake": "🥞", "cheese": "🧀",
    "burger": "🍔", "fries": "🍟", "pizza": "🍕", "hot dog": "🌭", "sandwich": "🥪", "taco": "🌮",
    "popcorn": "🍿", "can": "🥫", "sushi": "🍣", "doughnut": "🍩", "cookie": "🍪", "birthday cake": "🎂",
    "cupcake": "🧁", "pie": "🥧", "chocolate bar": "🍫", "lollipop": "🍭", "ice cream": "🍦", "coffee cup": "☕",
    "teapot": "🫖", "wine glass": "🍷", "beer mug": "🍺", "glass of milk": "🥛",
}  # fmt: skip

TOYS: dict[str, str] = {
    "teddy bear": "🧸", "balloon": "🎈", "kite": "🪁", "rocket": "🚀", "robot": "🤖", "soccer ball": "⚽",
    "basketball": "🏀", "baseball": "⚾", "tennis racket": "🎾", "rugby ball": "🏉", "dart board": "🎯", "dice": "🎲",
    "puzzle piece": "🧩", "guitar": "🎸", "violin": "🎻", "trumpet": "🎺", "drum": "🥁",
    "snowman": "⛄", "ghost": "👻", "pumpkin": "🎃", "skateboard": "🛹",
}  # fmt: skip

VEHICLES: dict[str, str] = {
    "car": "🚗", "taxi": "🚕", "bus": "🚌", "police car": "🚓", "ambulance": "🚑", "fire truck": "🚒",
    "truck": "🚚", "tractor": "🚜", "motorcycle": "🏍️", "scooter": "🛵", "bicycle": "🚲",
    "train": "🚂", "airplane": "✈️", "helicopter": "🚁", "sailboat": "⛵", "ship": "🚢", "canoe": "🛶",
}  # fmt: skip

HOUSEHOLD: dict[str, str] = {
    "crown": "👑", "top hat": "🎩", "backpack": "🎒", "handbag": "👜", "umbrella": "☂️", "glasses": "👓",
    "sunglasses": "🕶️", "shoe": "👟", "boot": "🥾", "sock": "🧦", "shirt": "👕", "jeans": "👖", "dress": "👗",
    "scarf": "🧣", "glove": "🧤", "watch": "⌚", "alarm clock": "⏰", "camera": "📷", "phone": "📱",
    "laptop": "💻", "television": "📺", "telephone": "☎️", "light bulb": "💡",
    "candle": "🕯️", "book": "📕", "pencil": "✏️", "paintbrush": "🖌️", "scissors": "✂️", "key": "🔑",
    "lock": "🔒", "hammer": "🔨", "axe": "🪓", "wrench": "🔧", "magnet": "🧲", "ladder": "🪜",
    "bucket": "🪣", "broom": "🧹", "toothbrush": "🪥", "sponge": "🧽", "chair": "🪑", "door": "🚪", "toilet": "🚽",
    "basket": "🧺", "gift": "🎁", "trophy": "🏆", "bell": "🔔", "hourglass": "⌛",
    "microscope": "🔬", "diamond": "💎", "ring": "💍", "house": "🏠", "castle": "🏰", "tent": "⛺",
    "sunflower": "🌻", "rose": "🌹", "tulip": "🌷", "cactus": "🌵", "palm tree": "🌴", "pine tree": "🌲",
    "potted plant": "🪴",
}  # fmt: skip

THINGS: dict[str, str] = ANIMALS | FOODS | TOYS | VEHICLES | HOUSEHOLD
NAMES: tuple[str, ...] = tuple(THINGS)

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 44), "orange": (240, 140, 40), "yellow": (245, 210, 60), "green": (70, 160, 75),
    "blue": (50, 100, 205), "purple": (130, 75, 175), "pink": (240, 140, 180), "brown": (125, 85, 55),
    "black": (30, 30, 32), "white": (242, 242, 240), "gray": (140, 142, 145),
}  # fmt: skip
TINTS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")

PLACES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on the beach", "on the sand", "at the sea"),
    "snow": ("in the snow", "in the snow", "on the snow"),
    "jungle": ("in the jungle", "in the jungle", "with plants in the background"),
    "forest": ("in the forest", "with trees in the background"),
    "city": ("with a city in the background", "in the city"),
    "mountains": ("with mountains in the background", "in the mountains"),
    "street": ("on the street", "on the road"),
    "table": ("on a table", "on a wooden table"),
    "wood": ("on a wooden floor", "on top of a wooden floor"),
    "water": ("in the water", "on the water", "floating on water"),
    "night": ("at night", "in the night", "under the night sky"),
    "grass": ("on the grass", "in the grass", "in the garden"),
    "sky": ("in the sky", "in the clouds"),
    "desert": ("in the desert",),
    "room": ("in a room", "at home", "indoors"),
    "brick": ("in front of a brick wall",),
    "leaves": ("on autumn leaves",),
    "carpet": ("on a carpet", "on a rug"),
}


def article(name: str) -> str:
    """The name with the article it takes: "an owl", "a dog", "fries"."""
    if name in ("fries", "bread", "broccoli", "corn", "cheese", "sushi", "popcorn", "jeans", "glasses",
                "sunglasses", "scissors", "dice"):  # fmt: skip
        return name
    return f"{'an' if name[0] in 'aeiou' and not name.startswith('uni') else 'a'} {name}"


def plural(name: str) -> str:
    """Two of them: "dogs", "foxes", "fish"."""
    if article(name) == name or name in ("sheep", "fish", "deer", "squid", "shrimp", "clownfish", "blowfish"):
        return name
    special = {"mouse": "mice", "wolf": "wolves", "glass of milk": "glasses of milk"}
    if name in special:
        return special[name]
    if name.endswith(("ch", "sh", "s", "x")):
        return name + "es"
    return name[:-1] + "ies" if name.endswith(("rry", "ggy", "by")) else name + "s"
