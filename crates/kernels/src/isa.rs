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
        let available = Isa::available();
        let Ok(name) = std::env::var("BLUELM_ISA") else {
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
        sets
    }

    /// `scalar`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
        }
    }
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
        let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
        if let Ok(expected) = std::env::var("EXPECT_ISA") {
            assert!(
                names.contains(&expected.as_str()),
                "{expected} is not among {names:?}"
            );
        }
        assert_eq!(names[0], "scalar");
    }
}
