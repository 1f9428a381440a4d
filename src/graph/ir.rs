//! Tensors and nodes. An op is a function that checks shapes, adds its outputs, and leaves two
//! closures behind: how it is lowered to commands, and how its gradient is built from other ops.

use super::{Role, Within};
use crate::error::{Error, Result};
use crate::gpu::Abilities;
use crate::kernels::attention::{AttentionClass, Kernels};
use crate::kernels::matmul::{Activation, Asked, Products, Transposition, Variant};
use crate::kernels::tune::{ProductClass, Tuning};
use crate::kernels::{Command, Element, Heads, Size, Sizes, TensorId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

/// The sizes of a tensor, slowest dimension first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<Size>);

impl Shape {
    /// The product of the sizes.
    ///
    /// # Panics
    /// More than one symbolic dimension: no op makes such a tensor.
    pub fn elements(&self) -> Size {
        self.0.iter().fold(Size::from(1u32), |product, size| {
            product.product(*size).unwrap_or_else(|| panic!("two symbols in {self}"))
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.0.iter().map(Size::to_string).collect();
        write!(f, "[{}]", sizes.join(", "))
    }
}

impl<const N: usize> From<[Size; N]> for Shape {
    fn from(sizes: [Size; N]) -> Self {
        Self(sizes.to_vec())
    }
}

/// The name of what mixed precision knows of its loss scale, in the session's store.
pub const LOSS_SCALE: &str = "loss scale";

/// What a graph is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Forward only: nothing is dropped, nothing is kept.
    Inference,
    /// Forward and backward: dropout strikes, and what the gradient needs is kept.
    Training {
        /// Keep only what lies between the boundaries of the graph, and compute the rest again.
        recompute: bool,
    },
}

impl Pass {
    /// Whether there will be a gradient.
    pub fn is_training(self) -> bool {
        self != Self::Inference
    }
}

/// What tensors are stored in that pass between the kernels of a step. Kernels compute in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// Activations, their gradients and a copy of the weights in float16; weights, their gradients
    /// and moments, statistics and sums in float32. The loss is multiplied with a scale, so that
    /// small gradients do not vanish (Micikevicius et al., "Mixed Precision Training", 2018).
    Mixed,
}

impl Precision {
    /// What passes between kernels is stored in.
    pub fn between_kernels(self) -> Element {
        match self {
            Self::F32 => Element::F32,
            Self::Mixed => Element::F16,
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "mixed" => Ok(Self::Mixed),
            _ => Err(Error::usage(format!("'{text}' is no precision: there is f32, and mixed"))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Mixed => "mixed",
        })
    }
}

/// Who fills a tensor, and how long it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Lives in the session's store, under its name and this role.
    Parameter(Role),
    /// Likewise, within a group of parameters.
    Member(Role),
    /// Given by the host at each step.
    Input,
    /// Made by an op within the step.
    Value,
}

pub(super) struct Tensor {
    pub name: String,
    pub shape: Shape,
    pub element: Element,
    pub kind: Origin,
    /// Where it lies, if it is a member of a group.
    pub within: Option<Within>,
}

type Lower = Box<dyn Fn(&mut Lowering) -> Vec<Command>>;
type Gradient = Box<dyn Fn(&mut Graph, &[Option<TensorId>]) -> Result<Vec<(TensorId, TensorId)>>>;

pub(super) struct Node {
    pub op: &'static str,
    pub outputs: Vec<TensorId>,
    pub lower: Lower,
    pub gradient: Option<Gradient>,
}

/// LayerNorms whose parameters' gradients are summed together at the end.
pub(super) struct Norms {
    pub columns: u32,
    /// `[norms, PARTS, 2, columns]`, what the backward pass of each leaves.
    pub parts: TensorId,
    /// The group that all these parameters are of.
    pub group: Within,
    /// Where scale and shift of each begin in the group, in elements.
    pub places: Vec<[u64; 2]>,
}

/// What an op can ask for while it is lowered.
pub struct Lowering<'a> {
    /// The kernels of the device that the commands are for.
    pub tuning: &'a Tuning,
    /// The largest batch that they are for.
    pub largest: Sizes,
    pub(super) elements: &'a [Element],
    pub(super) products: &'a mut BTreeSet<ProductClass>,
    pub(super) attention: &'a mut BTreeSet<AttentionClass>,
    pub(super) scratch: &'a mut dyn FnMut(Size) -> TensorId,
}

impl Lowering<'_> {
    /// What the device that the commands are for can do.
    pub fn abilities(&self) -> Abilities {
        self.tuning.abilities
    }

    /// The variant for a product of these sizes, of these factors.
    pub fn product(
        &mut self,
        transposition: Transposition,
        sizes: [Size; 3],
        factors: [TensorId; 2],
    ) -> Variant {
        let asked = self.asked(Products::One(transposition), sizes, &factors);
        self.products.insert(ProductClass::of(asked, &self.largest));
        self.tuning.products(asked, &self.largest)
    }

    /// The variant for the gradients of a projection, of these factors, where one launch computes
    /// them all.
    pub fn gradients(&mut self, sizes: [Size; 3], factors: [TensorId; 3]) -> Option<Variant> {
        let asked = self.asked(Products::Gradients, sizes, &factors);
        let variant = self.tuning.products(asked, &self.largest);
        if variant.computes_gradients() {
            self.products.insert(ProductClass::of(asked, &self.largest));
            return Some(variant);
        }
        None
    }

    /// The kernels for attention over blocks of a size, forward or backward.
    pub fn attention(&mut self, backward: bool, heads: Heads, block: u32) -> Kernels {
        let class = AttentionClass::of(backward, heads, block, &self.largest);
        self.attention.insert(class);
        Kernels { abilities: self.abilities(), division: self.tuning.division(class) }
    }

    fn asked(&self, products: Products, sizes: [Size; 3], factors: &[TensorId]) -> Asked {
        // Of mixed factors those in float32 decide which kernels can compute it.
        let float16 = |factor: &TensorId| self.elements[factor.0 as usize] == Element::F16;
        let factors = if factors.iter().all(float16) { Element::F16 } else { Element::F32 };
        Asked { products, sizes, factors }
    }

    /// A tensor of so many float32 that lives only within the op.
    pub fn scratch(&mut self, elements: Size) -> TensorId {
        (self.scratch)(elements)
    }
}

/// A computation, built op by op in the order in which it will run.
#[derive(Default)]
pub struct Graph {
    pub(super) tensors: Vec<Tensor>,
    pub(super) nodes: Vec<Node>,
    /// Nodes before which a segment ends and the next begins.
    pub(super) boundaries: Vec<usize>,
    in_parts: bool,
    precision: Precision,
    /// LayerNorms whose parameters' gradients are summed together at the end.
    pub(super) norms: Option<Norms>,
    /// The results of activations: by which, and of what.
    activations: HashMap<TensorId, (Activation, TensorId)>,
    /// While gradients are added: those that have been found.
    pub(super) found: HashMap<TensorId, TensorId>,
}

impl Graph {
    /// A graph without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a part of a step, whose gradients are added to those of other parts.
    pub fn of_part(self) -> Self {
        Self { in_parts: true, ..self }
    }

    /// The same with what passes between kernels stored in this precision.
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// What passes between kernels is stored in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    fn tensor(&mut self, name: &str, element: Element, shape: Shape, kind: Origin) -> TensorId {
        self.tensors.push(Tensor { name: name.into(), shape, element, kind, within: None });
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// A parameter in float32, which the session's store keeps under this name.
    pub fn parameter(&mut self, name: &str, sizes: &[u64]) -> TensorId {
        let shape = Shape(sizes.iter().map(|size| Size::from(*size)).collect());
        self.tensor(name, Element::F32, shape, Origin::Parameter(Role::Weight))
    }

    /// A parameter that is a member of a group (see [`super::Group`]).
    pub fn member(&mut self, name: &str, sizes: &[u64], within: Within) -> TensorId {
        let member = self.parameter(name, sizes);
        let tensor = &mut self.tensors[member.0 as usize];
        tensor.kind = Origin::Member(Role::Weight);
        tensor.within = Some(within);
        member
    }

    /// The tensor that has another role to a parameter, of the same shape and element.
    pub fn companion(&mut self, parameter: TensorId, role: Role) -> TensorId {
        let Tensor { name, shape, element, within, .. } = &self.tensors[parameter.0 as usize];
        let (name, shape, element, within) =
            (name.clone(), shape.clone(), *element, within.clone());
        let kind = match within {
            Some(_) => Origin::Member(role),
            None => Origin::Parameter(role),
        };
        self.tensors.push(Tensor { name, shape, element, kind, within });
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// What products multiply with: a matrix itself, or its copy in float16, which whoever changes
    /// the matrix keeps up to date.
    pub fn factor(&mut self, weight: TensorId) -> TensorId {
        match self.precision {
            Precision::F32 => weight,
            Precision::Mixed => self.half_of(weight),
        }
    }

    /// The copy of a parameter in float16.
    pub fn half_of(&mut self, parameter: TensorId) -> TensorId {
        let half = self.companion(parameter, Role::Half);
        self.tensors[half.0 as usize].element = Element::F16;
        half
    }

    /// `[4]`, what mixed precision knows of its loss scale; see `optimizer_norm_total.wgsl`.
    pub fn loss_scale(&mut self) -> Option<TensorId> {
        let is_mixed = self.precision == Precision::Mixed;
        is_mixed.then(|| self.parameter(LOSS_SCALE, &[4]))
    }

    /// Where a parameter lies, if it is a member of a group.
    pub(super) fn within(&self, parameter: TensorId) -> Option<&Within> {
        self.tensors[parameter.0 as usize].within.as_ref()
    }

    /// A tensor of words that has another role to a parameter, and a shape of its own.
    pub fn companion_words(&mut self, parameter: TensorId, role: Role, sizes: &[u64]) -> TensorId {
        let name = self.name(parameter).to_owned();
        let shape = Shape(sizes.iter().map(|size| Size::from(*size)).collect());
        self.tensor(&name, Element::U32, shape, Origin::Parameter(role))
    }

    /// The gradient of a parameter, as an output of the op that is being built. Those of a group
    /// lie together in the session's store, where one launch takes them all, unless the graph is
    /// one of several parts of a step, whose gradients are added up.
    pub fn gradient_of(&mut self, parameter: TensorId) -> TensorId {
        if self.stores_gradient(parameter) {
            return self.companion(parameter, Role::Gradient);
        }
        let name = format!("d {}", self.name(parameter));
        self.value(&name, self.shape(parameter).clone())
    }

    /// As [`Graph::gradient_of`], for an op that can add to what is there: in a part of a step that
    /// is the sum so far, in the session's store. Says whether it is to add.
    pub fn added_gradient_of(&mut self, parameter: TensorId) -> (TensorId, bool) {
        let is_stored = matches!(
            self.tensors[parameter.0 as usize].kind,
            Origin::Parameter(_) | Origin::Member(_)
        );
        match self.in_parts && is_stored {
            true => (self.companion(parameter, Role::Gradient), true),
            false => (self.gradient_of(parameter), false),
        }
    }

    /// Whether a gradient lies in the session's store, where nothing need be added to it any more.
    pub fn is_stored(&self, gradient: TensorId) -> bool {
        matches!(
            self.tensors[gradient.0 as usize].kind,
            Origin::Parameter(Role::Gradient) | Origin::Member(Role::Gradient)
        )
    }

    /// Whether the gradient of a parameter goes into the session's store.
    pub(super) fn stores_gradient(&self, parameter: TensorId) -> bool {
        self.within(parameter).is_some() && !self.in_parts
    }

    /// Changes the shape of a tensor that no command has been made for yet.
    pub(super) fn reshape(&mut self, tensor: TensorId, shape: impl Into<Shape>) {
        self.tensors[tensor.0 as usize].shape = shape.into();
    }

    /// A tensor that the host gives at each step.
    pub fn input(&mut self, name: &str, element: Element, shape: impl Into<Shape>) -> TensorId {
        self.tensor(name, element, shape.into(), Origin::Input)
    }

    /// An output, in float32, of the op that is being built.
    pub fn value(&mut self, name: &str, shape: impl Into<Shape>) -> TensorId {
        self.tensor(name, Element::F32, shape.into(), Origin::Value)
    }

    /// An output, in what is stored between kernels, of the op that is being built.
    pub fn activation(&mut self, name: &str, shape: impl Into<Shape>) -> TensorId {
        self.tensor(name, self.precision.between_kernels(), shape.into(), Origin::Value)
    }

    /// An output of the op that is being built, with the shape and the element of another tensor,
    /// such as its gradient.
    pub fn like(&mut self, name: &str, tensor: TensorId) -> TensorId {
        let Tensor { shape, element, .. } = &self.tensors[tensor.0 as usize];
        self.tensor(name, *element, shape.clone(), Origin::Value)
    }

    /// An output in float32 or float16.
    pub(super) fn stored(
        &mut self,
        name: &str,
        element: Element,
        shape: impl Into<Shape>,
    ) -> TensorId {
        self.tensor(name, element, shape.into(), Origin::Value)
    }

    /// An output of words (bits, numbers) of the op that is being built.
    pub fn words(&mut self, name: &str, shape: impl Into<Shape>) -> TensorId {
        self.tensor(name, Element::U32, shape.into(), Origin::Value)
    }

    /// Adds a node: its outputs, and how it is lowered.
    pub fn node(
        &mut self,
        op: &'static str,
        outputs: &[TensorId],
        lower: impl Fn(&mut Lowering) -> Vec<Command> + 'static,
    ) {
        self.nodes.push(Node {
            op,
            outputs: outputs.to_vec(),
            lower: Box::new(lower),
            gradient: None,
        });
    }

    /// Gives the last node its gradient: from the gradients of its outputs (those that have one) to
    /// pairs of an input and the gradient that reaches it by this node.
    pub fn gradient(
        &mut self,
        gradient: impl Fn(&mut Graph, &[Option<TensorId>]) -> Result<Vec<(TensorId, TensorId)>>
        + 'static,
    ) {
        if let Some(node) = self.nodes.last_mut() {
            node.gradient = Some(Box::new(gradient));
        }
    }

    /// Says that a tensor is the result of an activation, whose values `before` it are kept.
    pub fn activated(&mut self, result: TensorId, activation: Activation, before: TensorId) {
        self.activations.insert(result, (activation, before));
    }

    /// The activation that a tensor is the result of, and the values before it, where those are
    /// kept. A product may take the gradient of those at once.
    pub fn activation_of(&self, result: TensorId) -> Option<(Activation, TensorId)> {
        self.activations.get(&result).copied()
    }

    /// Within the gradient of a node: takes what has reached a tensor so far. Who takes it returns
    /// the sum of it and its own contribution.
    pub fn take_gradient(&mut self, of: TensorId) -> Option<TensorId> {
        self.found.remove(&of)
    }

    /// Says that here one segment of the computation ends and the next begins. What lies between
    /// two such places is computed again in backward instead of being kept; see `recompute.rs`.
    pub fn boundary(&mut self) {
        self.boundaries.push(self.nodes.len());
    }

    /// The name of a tensor.
    pub fn name(&self, tensor: TensorId) -> &str {
        &self.tensors[tensor.0 as usize].name
    }

    /// What a tensor's elements are.
    pub fn element(&self, tensor: TensorId) -> Element {
        self.tensors[tensor.0 as usize].element
    }

    /// The shape of a tensor.
    pub fn shape(&self, tensor: TensorId) -> &Shape {
        &self.tensors[tensor.0 as usize].shape
    }

    /// The two sizes of a matrix whose columns do not depend on the batch.
    ///
    /// # Errors
    /// Another number of dimensions, or symbolic columns: names the op, the tensor and its shape.
    pub fn matrix(&self, op: &str, tensor: TensorId) -> Result<(Size, u32)> {
        match *self.shape(tensor).0.as_slice() {
            [rows, Size { factor, symbol: None, .. }] if factor <= u64::from(u32::MAX) => {
                Ok((rows, factor as u32))
            }
            _ => Err(Error::internal(format!(
                "{op}: {} has the shape {}, and a matrix of fixed width is needed",
                self.name(tensor),
                self.shape(tensor)
            ))),
        }
    }

    /// Checks the shape of an op's operand.
    ///
    /// # Errors
    /// Names the op, the tensor and both shapes.
    pub fn expect(&self, op: &str, tensor: TensorId, shape: impl Into<Shape>) -> Result<()> {
        let wanted = shape.into();
        if *self.shape(tensor) == wanted {
            return Ok(());
        }
        Err(Error::internal(format!(
            "{op}: {} has the shape {}, and {wanted} is needed",
            self.name(tensor),
            self.shape(tensor)
        )))
    }
}
