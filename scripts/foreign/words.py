"""Words of the test pictures, written by hand for them."""

SIGNS = [
    "Mind the gap", "No fishing", "Ring the bell", "Fresh eggs", "Boat rental", "Keep off the grass", "Lost and found",
    "Beware of the dog", "Free parking", "Wet paint", "Silence please", "Platform 9", "Gate B12", "Exit 27",
    "Room 408", "Open 8 to 6", "Closed on Monday", "Push", "Pull", "Staff only", "Bus stop", "Taxi", "Harbour",
    "Old Mill Road", "Cash only", "No entry", "Slow down", "School zone", "Bike lane ends", "Self service", "Sold out",
    "Fire door", "High voltage", "Do not touch", "Way out", "Tickets", "Lift out of order", "Max 30 km", "Toll 2 miles",
    "Fresh bread daily", "Garden centre", "Camping ground", "Swimming pool", "Please queue here", "Rest area",
    "Bridge closed", "Summer sale", "Half price", "Hot soup today", "Library", "Reading room", "First aid", "Viewpoint",
    "Mind your head", "Hard hats required", "Deliveries at rear", "Quiet zone", "Water not drinkable", "Steep hill",
]
RARE = [
    "Quartz", "Velvet", "Magpie", "Lantern", "Juniper", "Oxbow", "Zephyr", "Kestrel", "Walnut", "Hatch", "Pylon",
    "Driftwood", "Fjord", "Gazebo", "Beacon", "Yarrow", "Cobalt", "Trellis", "Umbra", "Vortex", "Whistle", "Jigsaw",
    "Bramble", "Ember", "Lagoon", "Nimbus", "Orchid", "Parsley", "Quiver", "Rudder", "Saffron", "Thistle", "Wexford",
]
PLACES = ["Elm Street", "Dover", "Kingsway", "Pier", "Dock", "Hall", "Tower", "Route", "Bay", "Lane", "Terminal", "Oslo",
          "Bergen", "Porto", "Ghent", "Basel", "Turin", "Leeds", "York", "Bath"]
GOODS = [
    "Coffee", "Tea", "Cocoa", "Ginger ale", "Tonic", "Cider", "Scone", "Pretzel", "Baguette", "Rye bread", "Quiche",
    "Falafel", "Hummus", "Olives", "Risotto", "Gnocchi", "Ravioli", "Pho", "Ramen", "Dumplings", "Kebab", "Wrap", "Stew",
    "Porridge", "Pancake", "Crepe", "Sorbet", "Mango", "Plums", "Figs", "Dates", "Almonds", "Walnuts", "Soap", "Sponge",
    "Candle", "Matches", "Notebook", "Pencil", "Ruler", "Scissors", "Umbrella", "Socks", "Gloves", "Scarf", "Battery",
    "Lamp", "Rope", "Nails", "Paint", "Milk", "Butter", "Cheese", "Rice", "Soup", "Salad", "Pizza", "Water", "Juice",
]
SHOPS = ["Corner Deli", "Blue Kettle", "North Market", "Paper & Ink", "Harbor Foods", "Kwik Shop", "Olive Grove",
         "Tool Barn", "Bakery Lind", "City Books", "Farm Store", "Luna Cafe", "The Pantry", "Rosie's", "Depot 12"]
HEADINGS = ["Lunch", "Breakfast", "Drinks", "Specials", "Price list", "Menu", "Snacks", "Today", "From the grill",
            "Desserts", "Our prices", "Bar"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December"]
CHART_TITLES = ["Visitors", "Sales", "Rainfall", "Points", "Energy use", "Books read", "Goals", "Steps", "Orders",
                "Emails sent", "Power", "Trees planted"]
CHART_GROUPS = [
    ["North", "South", "East", "West", "Center", "Coast"],
    ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta"],
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
    ["Cars", "Buses", "Trains", "Bikes", "Trams", "Ferries"],
    ["Oslo", "Lima", "Cairo", "Delhi", "Quito", "Perth"],
    ["Wind", "Solar", "Coal", "Gas", "Hydro"],
    ["2019", "2020", "2021", "2022", "2023", "2024"],
]
TABLE_KEYS = {
    "Product": ["Hammer", "Drill", "Saw", "Pliers", "Wrench", "Level", "Chisel", "Clamp", "Vise", "File", "Anvil", "Rasp",
                "Mallet"],
    "Name": ["Ines", "Otto", "Maya", "Liam", "Nora", "Hugo", "Vera", "Ivan", "Rosa", "Kofi", "Yuki", "Paul", "Lena"],
    "City": ["Ghent", "Turin", "Porto", "Leeds", "Malmo", "Basel", "Lyon", "Kyoto", "Perth", "Quito", "Cork", "Graz"],
    "Plant": ["Fern", "Tulip", "Cactus", "Maple", "Ivy", "Aloe", "Basil", "Mint", "Rose", "Lily", "Sage", "Thyme"],
}
TABLE_COLUMNS = ["Price", "Stock", "Color", "Weight", "Size", "Score", "Day", "Code", "Points"]
NUMERIC = {"Price", "Stock", "Weight", "Score", "Points"}


def cells(rng, column, count):
    """A column of so many texts; numbers are all different."""
    if column == "Price":
        return [f"{price // 100}.{price % 100:02d}" for price in rng.sample(range(150, 9900, 5), count)]
    if column in ("Stock", "Score", "Points"):
        return [str(number) for number in rng.sample(range(3, 200), count)]
    if column == "Weight":
        return [f"{number / 10:.1f}" for number in rng.sample(range(11, 99), count)]
    if column == "Code":
        return [rng.choice("ABCDEFGHKLMNPRSTUVWX") + str(rng.randint(100, 999)) for _ in range(count)]
    source = {"Color": ["red", "green", "blue", "black", "white", "gray"], "Size": ["S", "M", "L", "XL", "XXL"],
              "Day": ["Monday", "Tuesday", "Friday", "Sunday"]}[column]
    return [rng.choice(source) for _ in range(count)]


FORM_TITLES = ["New account", "Contact us", "Delivery", "Hotel booking", "Library card", "Profile", "Support ticket",
               "Newsletter", "Check-in", "Payment"]
BUTTONS = ["Submit", "Save changes", "Next", "Send", "Continue", "Register", "Book now", "Log in"]
CHECKS = ["Newsletter", "Remember me", "Gift wrap", "Express", "Insurance", "Breakfast", "Parking"]
FORM_FIELDS = ["Name", "City", "Email", "Phone", "Country", "Company", "Room", "Guests", "Order number", "Street",
               "Password hint", "Language"]


def field_value(rng, label):
    first = rng.choice(["Ines", "Otto", "Maya", "Hugo", "Vera", "Rosa", "Kofi", "Yuki"])
    last = rng.choice(["Brandt", "Okafor", "Silva", "Novak", "Quinn", "Tanaka", "Webb", "Young"])
    return {
        "Name": f"{first} {last}",
        "City": rng.choice(TABLE_KEYS["City"]),
        "Email": f"{first.lower()}@{rng.choice(['mail', 'post', 'inbox'])}.{rng.choice(['org', 'net', 'com'])}",
        "Phone": f"{rng.randint(200, 999)}-{rng.randint(1000, 9999)}",
        "Country": rng.choice(["Norway", "Peru", "Japan", "Kenya", "Chile", "Spain"]),
        "Company": f"{last} {rng.choice(['Ltd', 'Inc', 'GmbH'])}",
        "Room": str(rng.randint(100, 899)),
        "Guests": str(rng.randint(1, 9)),
        "Order number": str(rng.randint(10000, 99999)),
        "Street": f"{rng.choice(['Elm', 'Mill', 'Park', 'High'])} Street {rng.randint(1, 99)}",
        "Password hint": rng.choice(["first pet", "old school", "blue car"]),
        "Language": rng.choice(["English", "Dutch", "Spanish", "Polish"]),
    }[label]


COLORS = {"red": "#d81e1e", "green": "#1f9d3a", "blue": "#2050e0", "yellow": "#f5dc1e", "orange": "#f58a14",
          "purple": "#7d2aa8", "black": "#101010"}
SHAPES = ["circle", "square", "triangle", "star"]
