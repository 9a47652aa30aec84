//! Which instruction set to compute with, decided at run time.

use std::sync::OnceLock;

/// An instruction set that this processor has; only detection makes one, so holding it is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// The best set of this processor, or the one that `BLUELM_ISA` names.
    ///
    /// # Panics
    /// When `BLUELM_ISA` names an absent one: a silent fallback would measure and test the wrong code. Programs that
    /// want a message instead call [`Isa::from_env`] first.
    pub fn detect() -> Isa {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| match Isa::from_env() {
            Ok(isa) => isa,
            Err(problem) => panic!("{problem}"),
        })
    }

    /// As [`Isa::detect`], with the mistake as text.
    pub fn from_env() -> Result<Isa, String> {
        let name = std::env::var_os("BLUELM_ISA");
        Isa::choose(
            name.map(|name| name.to_string_lossy().into_owned())
                .as_deref(),
        )
    }

    fn choose(name: Option<&str>) -> Result<Isa, String> {
        let available = Isa::available();
        let Some(name) = name else {
            return Ok(available[available.len() - 1]);
        };
        available
            .iter()
            .copied()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
                format!(
                    "BLUELM_ISA is {name:?}, expected one that this processor has: {}",
                    names.join(", ")
                )
            })
    }

    /// All sets of this processor, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut sets = vec![Isa(Set::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Isa(Set::Avx2));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")
            {
                sets.push(Isa(Set::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            sets.push(Isa(Set::Neon));
        }
        sets
    }

    /// `scalar`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
        }
    }
}

/// The best integer dot product of this processor, or the one that goes with a chosen instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dot {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Dot {
    pub(crate) fn detect(isa: Isa) -> Dot {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512
                if is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512bw") =>
            {
                Dot::Avx512Vnni
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 | Set::Avx512 => Dot::Avx2,
            #[cfg(target_arch = "aarch64")]
            Set::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => Dot::NeonDot,
            _ => Dot::Scalar,
        }
    }
}

/// The first `left` of 16 lanes, at most all.
#[cfg(target_arch = "x86_64")]
pub(crate) fn first_lanes(left: usize) -> std::arch::x86_64::__mmask16 {
    ((1u32 << left.min(16)) - 1) as u16
}

/// Compiles the function `body`, which is `#[inline(always)]`, once for each instruction set and dispatches to it.
macro_rules! per_isa {
    ($(#[$doc:meta])* $visibility:vis $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? => $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name(isa: $crate::isa::Isa, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? { $body($($argument),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,fma")]
            fn avx512($($argument: $type),*) $(-> $result)? { $body($($argument),*) }
            match isa.0 {
                $crate::isa::Set::Scalar => $body($($argument),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` exists only for sets that this processor has.
                #[allow(unsafe_code)]
                $crate::isa::Set::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                #[allow(unsafe_code)]
                $crate::isa::Set::Avx512 => unsafe { avx512($($argument),*) },
                // Part of every 64-bit Arm target: the compiler uses it without being told.
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Set::Neon => $body($($argument),*),
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_instruction_set_is_really_tested() {
        let sets = Isa::available();
        let names = sets.iter().map(|isa| isa.name());
        // What there is within a set counts only where the kernels choose it.
        #[cfg(target_arch = "aarch64")]
        let names = names.chain(
            sets.iter()
                .any(|isa| Dot::detect(*isa) == Dot::NeonDot)
                .then_some("dotprod"),
        );
        let names: Vec<_> = names.collect();
        assert_eq!(names[0], "scalar");
        let expected = std::env::var("EXPECT_ISA").unwrap_or_default();
        for name in expected.split(',').filter(|name| !name.is_empty()) {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }

    #[test]
    fn a_set_is_chosen_by_its_name_and_an_absent_one_is_a_mistake() {
        let available = Isa::available();
        assert_eq!(Isa::choose(None), Ok(available[available.len() - 1]));
        for isa in available {
            assert_eq!(Isa::choose(Some(isa.name())), Ok(isa));
        }
        for name in ["", "AVX2", "sse9"] {
            let problem = Isa::choose(Some(name)).unwrap_err();
            let start =
                format!("BLUELM_ISA is {name:?}, expected one that this processor has: scalar");
            assert!(problem.starts_with(&start), "{problem}");
        }
    }
}
