//! What a job function takes and returns.

use syn::spanned::Spanned as _;
use syn::{Error, FnArg, Result, ReturnType, Signature, Type};

pub(crate) struct Shape {
    pub(crate) has_self: bool,
    pub(crate) has_ctx: bool,
    pub(crate) input: Option<Type>,
    pub(crate) output: Type,
    pub(crate) is_async: bool,
}

impl Shape {
    pub(crate) fn of(signature: &Signature) -> Result<Self> {
        if !signature.generics.params.is_empty() {
            return Err(Error::new(
                signature.generics.span(),
                "a job has no type parameters: its topic names one handler",
            ));
        }
        let ReturnType::Type(_, output) = &signature.output else {
            return Err(Error::new(signature.ident.span(), "a job returns `Result<Output, HandlerError>`"));
        };
        let mut has_self = false;
        let mut types = Vec::new();
        for argument in &signature.inputs {
            match argument {
                FnArg::Receiver(this) if this.reference.is_none() || this.mutability.is_some() => {
                    return Err(Error::new(this.span(), "a job takes `&self`: jobs run at the same time"));
                }
                FnArg::Receiver(_) => has_self = true,
                FnArg::Typed(typed) => types.push((*typed.ty).clone()),
            }
        }
        let has_ctx = types.first().is_some_and(is_ctx);
        let mut rest = types.into_iter().skip(usize::from(has_ctx));
        let (input, extra) = (rest.next(), rest.next());
        if let Some(extra) = extra {
            return Err(Error::new(
                extra.span(),
                "a job takes a `Ctx` and one input, either of which may be left out",
            ));
        }
        let is_async = signature.asyncness.is_some();
        Ok(Self { has_self, has_ctx, input, output: (**output).clone(), is_async })
    }
}

fn is_ctx(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.segments.last().is_some_and(|segment| segment.ident == "Ctx"),
        _ => false,
    }
}
