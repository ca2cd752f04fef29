//! What of an application is open to people who did not sign in.

/// The open parts of one application; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    /// The whole application is: nobody signs in here, the backend does what it likes.
    pub pass_through: bool,
    /// These paths are.
    pub anonymous: Paths,
}

/// Published paths: one that ends in a slash stands for everything below it, any other for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(Vec<String>);

impl Paths {
    /// The set of `paths`, each from the root.
    #[must_use]
    pub const fn new(paths: Vec<String>) -> Self {
        Self(paths)
    }

    /// True for none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the normalized `path` is one of them.
    ///
    /// SECURITY: rules that refuse are compared as the most lenient backend reads, this one, which opens,
    /// byte by byte. A path that some server would read once more (`%252e`, `;`) is not open: it may
    /// still be had by signing in.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        !self.0.is_empty()
            && !read_again(path)
            && self.0.iter().any(|open| {
                if open.ends_with('/') {
                    path.starts_with(open.as_str())
                } else {
                    path == open
                }
            })
    }
}

/// Whether an escape or a parameter could become a dot, a slash or another escape.
fn read_again(path: &str) -> bool {
    path.contains(';')
        || path.split('%').skip(1).any(|after| {
            let code = after.get(..2).map(|digits| u8::from_str_radix(digits, 16));
            matches!(
                code,
                None | Some(Err(_) | Ok(b'.' | b'/' | b'\\' | b'%' | b';'))
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_open() {
        let open = Paths::new(vec![String::from("/health"), String::from("/public/")]);
        for path in ["/health", "/public/", "/public/a/b", "/public/%e4"] {
            assert!(open.holds(path), "{path}");
        }
        for path in [
            "/",
            "/health/",
            "/healthy",
            "/Health",
            "/h%65alth",
            "/public",
            "/PUBLIC/a",
            "/publics/a",
            "/public/%2e%2e/admin",
            "/public/%252e%252e/admin",
            "/public/a%2f..%2fadmin",
            "/public/a%5c",
            "/public/;/admin",
            "/public/a%3bb",
            "/public/%",
            "/public/%zz",
        ] {
            assert!(!open.holds(path), "{path}");
        }
        assert!(!Paths::default().holds("/"));
    }
}
