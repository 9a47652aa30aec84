//! Time to make one example of each kind of scene: it must stay far below a training step.

use std::collections::BTreeMap;

use data::{Generator, Recipe, SceneKind};

fn main() {
    divan::main();
}

#[divan::bench(args = SceneKind::ALL)]
fn example(bencher: divan::Bencher, scene: SceneKind) {
    let recipe = Recipe {
        scenes: BTreeMap::from([(scene, 1.0)]),
        ..Recipe::default()
    };
    let generator = Generator::new(7, recipe).expect("the default recipe is right");
    let mut index = 0;
    for warm_up in 0..300 {
        generator.example(1_000_000 + warm_up);
    }
    bencher.bench_local(|| {
        index += 1;
        generator.example(index)
    });
}
