//! Multi-head latent attention and mixtures of experts, as data: DeepSeek-V3, Kimi-VL, MiniCPM3.

/// Attention to low-rank latents (<https://arxiv.org/abs/2405.04434>, section 2.1): keys and values of all heads are linear in
/// one row a position, which is all that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latent {
    /// Width of the row that keys and values are made from.
    pub width: usize,
    /// Width of the key, shared by all heads, that is turned by its position.
    pub rotated: usize,
    /// Numbers of a query that meet the latent.
    pub plain: usize,
    /// Numbers of a value.
    pub value: usize,
    /// Width of the row that queries are made from; none where they are made from the block's rows.
    pub query: Option<usize>,
    /// Which numbers turn together.
    pub pairs: RopePairs,
}

/// The pairs of numbers that rotary positions turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// One of the first half, one of the second.
    Halves,
    /// Neighbours.
    Neighbours,
}

/// A mixture of experts that a router chooses from by sigmoid scores (<https://arxiv.org/abs/2412.19437>, section 2.1.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a row takes.
    pub taken: usize,
    /// Inner width of each.
    pub ffn: usize,
    /// Inner width of the one that every row takes; 0 for none.
    pub shared_ffn: usize,
    /// Blocks before the first that has them; these have a gated MLP of the decoder's width.
    pub dense_layers: usize,
    /// Experts stand in so many groups.
    pub groups: usize,
    /// How many of the groups a row chooses from: those whose two best scores sum to the most.
    pub taken_groups: usize,
    /// Whether the weights of a row's experts are made to sum to one.
    pub normalised: bool,
    /// What the weights are multiplied with then.
    pub scale: f32,
}

impl Experts {
    /// The experts of a layer, where it has them.
    pub fn at(experts: &Option<Experts>, layer: usize) -> Option<&Experts> {
        experts
            .as_ref()
            .filter(|experts| layer >= experts.dense_layers)
    }

    /// What does not fit together, by the names of config.json.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, value, limit) in [
            ("n_routed_experts", self.count, 1 << 12),
            ("moe_intermediate_size", self.ffn, 1 << 20),
            ("num_experts_per_tok", self.taken, self.count),
            ("n_group", self.groups, self.count),
            ("topk_group", self.taken_groups, self.groups),
        ] {
            if value == 0 || value > limit {
                return Err(format!("{name} is {value}, expected 1 to {limit}"));
            }
        }
        let of_group = self.count / self.groups;
        if !self.count.is_multiple_of(self.groups) || of_group * self.taken_groups < self.taken {
            return Err(format!(
                "{} experts in {} groups, {} of {} groups taken: do not fit together",
                self.count, self.groups, self.taken, self.taken_groups
            ));
        }
        match self.shared_ffn > 1 << 20 {
            true => Err(format!(
                "n_shared_experts: {} inner numbers",
                self.shared_ffn
            )),
            false => Ok(()),
        }
    }
}

impl Latent {
    /// What a position remembers.
    pub fn remembered(&self) -> usize {
        self.width + self.rotated
    }

    /// Numbers of a query of one head.
    pub fn of_query(&self) -> usize {
        self.plain + self.rotated
    }

    /// What does not fit together, by the names of config.json.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("kv_lora_rank", self.width),
            ("qk_rope_head_dim", self.rotated),
            ("qk_nope_head_dim", self.plain),
            ("v_head_dim", self.value),
            ("q_lora_rank", self.query.unwrap_or(1)),
        ] {
            if value == 0 || value > 1 << 14 {
                return Err(format!("{name} is {value}, expected 1 to {}", 1 << 14));
            }
        }
        match self.rotated.is_multiple_of(2) {
            true => Ok(()),
            false => Err(format!(
                "qk_rope_head_dim is {}, expected an even number",
                self.rotated
            )),
        }
    }
}
