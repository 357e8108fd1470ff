//! Defines a set of counters together with the order in which the record format stores them.

/// Defines a struct of optional counters, and lists of them in the order of the format.
macro_rules! counters {
    ($(#[$about:meta])+ $set:ident { $($(#[$doc:meta])+ $name:ident,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set {
            $($(#[$doc])+ pub $name: Option<u64>,)+
        }

        impl $set {
            /// Number of counters.
            pub(crate) const COUNT: usize = [$(stringify!($name)),+].len();

            /// All counters, in the order of the record format.
            pub(crate) fn values(&self) -> [Option<u64>; Self::COUNT] {
                [$(self.$name),+]
            }

            /// All counters as mutable references, in the order of the record format.
            pub(crate) fn values_mut(&mut self) -> [&mut Option<u64>; Self::COUNT] {
                [$(&mut self.$name),+]
            }
        }
    };
}

pub(super) use counters;
