//! What the attributes write.

use crate::options::Options;
use crate::signature::Shape;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Error, Ident, ImplItem, ItemFn, ItemImpl, Meta, Result, Type, Visibility};

pub(crate) fn job(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let options = Options::parse(options)?;
    let mut function: ItemFn = syn::parse2(item)?;
    let shape = Shape::of(&function.sig)?;
    if shape.has_self {
        return Err(Error::new(
            function.sig.ident.span(),
            "a method is a job within an `impl` that carries `#[jobs]`",
        ));
    }
    let (name, visibility) = (function.sig.ident.clone(), function.vis.clone());
    let docs: Vec<Attribute> =
        function.attrs.iter().filter(|attr| attr.path().is_ident("doc")).cloned().collect();
    let Facts { topic, input, output, defaults } = Facts::of(&options, &shape, &name);
    function.sig.ident = format_ident!("call", span = name.span());
    function.vis = visibility.clone();
    let call = call(quote!(Self::call), &shape);
    let binding = binding(&options, &shape, &topic, &input, quote!(#name::call), None);
    let handler = shape.is_async.then(|| {
        quote! {
            impl ::coretex_sdk::Handler<#input> for #name {
                type Output = #output;

                fn handle(
                    &self,
                    ctx: ::coretex_sdk::Ctx,
                    input: #input,
                ) -> impl ::core::future::Future<Output = ::core::result::Result<#output, ::coretex_sdk::HandlerError>>
                + ::core::marker::Send {
                    let _ = (&ctx, &input);
                    #call
                }
            }
        }
    });
    let request = request(&visibility, &format_ident!("job"), &topic, &input, &output, &defaults);
    Ok(quote! {
        #(#docs)*
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #visibility struct #name;

        impl #name {
            #function
            #request
        }

        impl ::coretex_sdk::JobType for #name {
            const TOPIC: &'static str = #topic;
            type Input = #input;
            type Output = #output;

            fn request(input: #input) -> ::coretex_sdk::JobRequest<#output> {
                Self::job(input)
            }
        }

        #handler

        impl ::coretex_sdk::Bind for #name {
            fn bindings(self) -> ::std::vec::Vec<::coretex_sdk::Binding> {
                ::std::vec![#binding]
            }
        }
    })
}

pub(crate) fn jobs(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(Error::new_spanned(options, "`#[jobs]` has no options; they stand on each `#[job]`"));
    }
    let mut item: ItemImpl = syn::parse2(item)?;
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new_spanned(path, "`#[jobs]` stands on an `impl` of the type itself"));
    }
    let (mut requests, mut bindings) = (Vec::new(), Vec::new());
    for member in &mut item.items {
        let ImplItem::Fn(method) = member else { continue };
        let Some(at) = method.attrs.iter().position(|attr| attr.path().is_ident("job")) else { continue };
        let options = match method.attrs.remove(at).meta {
            Meta::Path(_) => Options::default(),
            Meta::List(list) => Options::parse(list.tokens)?,
            Meta::NameValue(pair) => return Err(Error::new_spanned(pair, "options stand in parentheses")),
        };
        let (name, shape) = (&method.sig.ident, Shape::of(&method.sig)?);
        if !shape.has_self {
            return Err(Error::new(
                name.span(),
                "a job of an `impl` takes `&self`; a function on its own carries `#[job]` alone",
            ));
        }
        let Facts { topic, input, output, defaults } = Facts::of(&options, &shape, name);
        let made = format_ident!("{name}_job");
        requests.push(request(&method.vis, &made, &topic, &input, &output, &defaults));
        bindings.push(binding(&options, &shape, &topic, &input, quote!(this.#name), Some(quote!(this))));
    }
    if bindings.is_empty() {
        return Err(Error::new_spanned(&item.self_ty, "no method of this `impl` carries `#[job]`"));
    }
    let (own, generics) = (&item.self_ty, &item.generics);
    let (params, _, bounds) = generics.split_for_impl();
    Ok(quote! {
        #item

        impl #params #own #bounds {
            #(#requests)*
        }

        impl #params ::coretex_sdk::JobSet for #own #bounds {
            fn bind_all(this: ::std::sync::Arc<Self>) -> ::std::vec::Vec<::coretex_sdk::Binding> {
                ::std::vec![#(#bindings),*]
            }
        }
    })
}

struct Facts {
    topic: String,
    input: TokenStream,
    output: TokenStream,
    /// Calls on the request that set its defaults.
    defaults: TokenStream,
}

impl Facts {
    fn of(options: &Options, shape: &Shape, name: &Ident) -> Self {
        let input = shape.input.as_ref().map_or_else(|| quote!(()), |input: &Type| quote!(#input));
        let result = &shape.output;
        let output = quote!(<#result as ::coretex_sdk::JobResult>::Output);
        let mut defaults = TokenStream::new();
        if let Some(retries) = options.retries {
            let attempts = retries + 1;
            defaults.extend(quote!(.max_attempts(#attempts)));
        }
        if let Some(timeout) = options.timeout {
            let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            defaults.extend(quote!(.timeout(::core::time::Duration::from_millis(#millis))));
        }
        if let Some(priority) = options.priority {
            defaults.extend(quote!(.priority(#priority)));
        }
        if let Some(pool) = &options.pool {
            defaults.extend(quote!(.pool(#pool)));
        }
        let topic = options.topic.clone().unwrap_or_else(|| name.to_string());
        Self { topic, input, output, defaults }
    }
}

fn request(
    visibility: &Visibility,
    name: &Ident,
    topic: &str,
    input: &TokenStream,
    output: &TokenStream,
    defaults: &TokenStream,
) -> TokenStream {
    let doc = format!("A request for a job of the topic `{topic}`.");
    quote! {
        #[doc = #doc]
        #visibility fn #name(input: #input) -> ::coretex_sdk::JobRequest<#output> {
            ::coretex_sdk::JobRequest::typed(#topic, input)#defaults
        }
    }
}

/// A call with those of `ctx` and `input` that the function takes.
fn call(function: TokenStream, shape: &Shape) -> TokenStream {
    match (shape.has_ctx, shape.input.is_some()) {
        (true, true) => quote!(#function(ctx, input)),
        (true, false) => quote!(#function(ctx)),
        (false, true) => quote!(#function(input)),
        (false, false) => quote!(#function()),
    }
}

fn binding(
    options: &Options,
    shape: &Shape,
    topic: &str,
    input: &TokenStream,
    function: TokenStream,
    this: Option<TokenStream>,
) -> TokenStream {
    let call = call(function, shape);
    let share = this.as_ref().map(|this| quote!(let #this = ::std::sync::Arc::clone(&#this);));
    let unused = quote!(let _ = (&ctx, &input););
    let made = match shape.is_async {
        true => quote! {
            ::coretex_sdk::Binding::new(#topic, move |ctx: ::coretex_sdk::Ctx, input: #input| {
                #share
                async move { #unused #call.await }
            })
        },
        false => quote! {
            ::coretex_sdk::Binding::blocking(#topic, move |ctx: ::coretex_sdk::Ctx, input: #input| { #unused #call })
        },
    };
    let slots = options.slots.map(|slots| quote!(.slots(#slots)));
    let lane = options.lane.as_ref().map(|lane| quote!(.lane(#lane)));
    let idempotent = options.idempotent.then(|| quote!(.idempotent()));
    quote!({ #share #made #slots #lane #idempotent })
}
