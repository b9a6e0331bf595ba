//! Fields whose Go type has a name of its own, as decoding errors show it: `v1.DNSPolicy` where JSON has a string.

/// Struct, then `field:Type` each. A type without a package is of the struct's own version.
const NAMED: &[(&str, &str)] = &[
    // meta
    ("ObjectMeta", "uid:types.UID"),
    ("OwnerReference", "uid:types.UID"),
    ("Preconditions", "uid:types.UID"),
    ("LabelSelectorRequirement", "operator:LabelSelectorOperator"),
    ("ManagedFieldsEntry", "operation:ManagedFieldsOperationType"),
    ("Condition", "status:ConditionStatus"),
    ("DeleteOptions", "propagationPolicy:DeletionPropagation"),
    // core
    ("AppArmorProfile", "type:AppArmorProfileType"),
    ("AzureDiskVolumeSource", "cachingMode:AzureDataDiskCachingMode kind:AzureDataDiskKind"),
    ("Capabilities", "add:Capability drop:Capability"),
    ("ComponentCondition", "type:ComponentConditionType status:ConditionStatus"),
    ("Container", CONTAINER),
    ("ContainerPort", "protocol:Protocol"),
    ("ContainerResizePolicy", "resourceName:ResourceName restartPolicy:ResourceResizeRestartPolicy"),
    ("ContainerRestartRule", "action:ContainerRestartRuleAction"),
    ("ContainerRestartRuleOnExitCodes", "operator:ContainerRestartRuleOnExitCodesOperator"),
    ("EmptyDirVolumeSource", "medium:StorageMedium"),
    ("EphemeralContainer", CONTAINER),
    ("EphemeralContainerCommon", CONTAINER),
    ("HTTPGetAction", "scheme:URIScheme"),
    ("HostPathVolumeSource", "type:HostPathType"),
    ("ImageVolumeSource", "pullPolicy:PullPolicy"),
    ("Lifecycle", "stopSignal:Signal"),
    ("LimitRangeItem", "type:LimitType"),
    ("LoadBalancerIngress", "ipMode:LoadBalancerIPMode"),
    ("NamespaceCondition", "type:NamespaceConditionType status:ConditionStatus"),
    ("NamespaceSpec", "finalizers:FinalizerName"),
    ("NamespaceStatus", "phase:NamespacePhase"),
    ("NodeAddress", "type:NodeAddressType"),
    ("NodeCondition", "type:NodeConditionType status:ConditionStatus"),
    ("NodeSelectorRequirement", "operator:NodeSelectorOperator"),
    ("NodeStatus", "phase:NodePhase"),
    ("ObjectReference", "uid:types.UID"),
    ("PersistentVolumeClaimCondition", "type:PersistentVolumeClaimConditionType status:ConditionStatus"),
    ("PersistentVolumeClaimSpec", "accessModes:PersistentVolumeAccessMode volumeMode:PersistentVolumeMode"),
    (
        "PersistentVolumeClaimStatus",
        "phase:PersistentVolumeClaimPhase accessModes:PersistentVolumeAccessMode",
    ),
    (
        "PersistentVolumeSpec",
        "accessModes:PersistentVolumeAccessMode volumeMode:PersistentVolumeMode \
         persistentVolumeReclaimPolicy:PersistentVolumeReclaimPolicy",
    ),
    ("PersistentVolumeStatus", "phase:PersistentVolumePhase"),
    ("PodCondition", "type:PodConditionType status:ConditionStatus"),
    ("PodOS", "name:OSName"),
    ("PodReadinessGate", "conditionType:PodConditionType"),
    (
        "PodSecurityContext",
        "fsGroupChangePolicy:PodFSGroupChangePolicy supplementalGroupsPolicy:SupplementalGroupsPolicy \
         seLinuxChangePolicy:PodSELinuxChangePolicy",
    ),
    ("PodSpec", "restartPolicy:RestartPolicy dnsPolicy:DNSPolicy preemptionPolicy:PreemptionPolicy"),
    ("PodStatus", "phase:PodPhase qosClass:PodQOSClass"),
    ("ReplicationControllerCondition", "type:ReplicationControllerConditionType status:ConditionStatus"),
    ("ResourceQuotaSpec", "scopes:ResourceQuotaScope"),
    ("ScopedResourceSelectorRequirement", "scopeName:ResourceQuotaScope operator:ScopeSelectorOperator"),
    ("SeccompProfile", "type:SeccompProfileType"),
    ("Secret", "type:SecretType"),
    ("SecurityContext", "procMount:ProcMountType"),
    ("ServicePort", "protocol:Protocol"),
    (
        "ServiceSpec",
        "type:ServiceType sessionAffinity:ServiceAffinity externalTrafficPolicy:ServiceExternalTrafficPolicy \
         internalTrafficPolicy:ServiceInternalTrafficPolicy ipFamilyPolicy:IPFamilyPolicy ipFamilies:IPFamily",
    ),
    ("Taint", "effect:TaintEffect"),
    ("Toleration", "operator:TolerationOperator effect:TaintEffect"),
    (
        "TopologySpreadConstraint",
        "whenUnsatisfiable:UnsatisfiableConstraintAction nodeAffinityPolicy:NodeInclusionPolicy \
         nodeTaintsPolicy:NodeInclusionPolicy",
    ),
    ("VolumeMount", "mountPropagation:MountPropagationMode recursiveReadOnly:RecursiveReadOnlyMode"),
    // core and discovery
    ("EndpointPort", "protocol:v1.Protocol"),
    ("EndpointSlice", "addressType:AddressType"),
    // apps
    ("DaemonSetUpdateStrategy", "type:DaemonSetUpdateStrategyType"),
    ("DeploymentCondition", "type:DeploymentConditionType status:v1.ConditionStatus"),
    ("DeploymentStrategy", "type:DeploymentStrategyType"),
    (
        "StatefulSetPersistentVolumeClaimRetentionPolicy",
        "whenDeleted:PersistentVolumeClaimRetentionPolicyType whenScaled:PersistentVolumeClaimRetentionPolicyType",
    ),
    ("StatefulSetSpec", "podManagementPolicy:PodManagementPolicyType"),
    ("StatefulSetUpdateStrategy", "type:StatefulSetUpdateStrategyType"),
    // batch
    ("CronJobSpec", "concurrencyPolicy:ConcurrencyPolicy"),
    ("JobCondition", "type:JobConditionType status:v1.ConditionStatus"),
    ("JobSpec", "completionMode:CompletionMode podReplacementPolicy:PodReplacementPolicy"),
    ("PodFailurePolicyOnExitCodesRequirement", "operator:PodFailurePolicyOnExitCodesOperator"),
    ("PodFailurePolicyOnPodConditionsPattern", "type:v1.PodConditionType status:v1.ConditionStatus"),
    ("PodFailurePolicyRule", "action:PodFailurePolicyAction"),
    // autoscaling
    ("ContainerResourceMetricSource", "name:v1.ResourceName"),
    ("HPAScalingPolicy", "type:HPAScalingPolicyType"),
    ("HPAScalingRules", "selectPolicy:ScalingPolicySelect"),
    ("MetricSpec", "type:MetricSourceType"),
    ("MetricTarget", "type:MetricTargetType"),
    ("ResourceMetricSource", "name:v1.ResourceName"),
    // networking and policy
    ("HTTPIngressPath", "pathType:PathType"),
    ("NetworkPolicyPort", "protocol:v1.Protocol"),
    ("NetworkPolicySpec", "policyTypes:PolicyType"),
    ("PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy:UnhealthyPodEvictionPolicyType"),
    // storage and scheduling
    ("CSIDriverSpec", "fsGroupPolicy:FSGroupPolicy volumeLifecycleModes:VolumeLifecycleMode"),
    ("PriorityClass", "preemptionPolicy:v1.PreemptionPolicy"),
    ("StorageClass", "reclaimPolicy:v1.PersistentVolumeReclaimPolicy volumeBindingMode:VolumeBindingMode"),
    ("LeaseSpec", "strategy:CoordinatedLeaseStrategy"),
    // certificates
    ("CertificateSigningRequestCondition", "type:RequestConditionType status:v1.ConditionStatus"),
    ("CertificateSigningRequestSpec", "usages:KeyUsage"),
    // admissionregistration
    ("MatchResources", "matchPolicy:MatchPolicyType"),
    (
        "MutatingAdmissionPolicySpec",
        "failurePolicy:FailurePolicyType reinvocationPolicy:v1.ReinvocationPolicyType",
    ),
    ("MutatingWebhook", WEBHOOK),
    ("Mutation", "patchType:PatchType"),
    ("NamedRuleWithOperations", "operations:OperationType scope:ScopeType"),
    ("ParamRef", "parameterNotFoundAction:ParameterNotFoundActionType"),
    ("Rule", "scope:ScopeType"),
    ("RuleWithOperations", "operations:OperationType scope:ScopeType"),
    ("ValidatingAdmissionPolicyBindingSpec", "validationActions:ValidationAction"),
    ("ValidatingAdmissionPolicySpec", "failurePolicy:FailurePolicyType"),
    ("ValidatingWebhook", WEBHOOK),
    ("Validation", "reason:v1.StatusReason"),
    // flow control
    ("FlowDistinguisherMethod", "type:FlowDistinguisherMethodType"),
    ("LimitResponse", "type:LimitResponseType"),
    ("PriorityLevelConfigurationSpec", "type:PriorityLevelEnablement"),
    // resource
    ("Device", "attributes:map.QualifiedName capacity:map.QualifiedName"),
    ("DeviceConstraint", "matchAttribute:FullyQualifiedName distinctAttribute:FullyQualifiedName"),
    ("DeviceSubRequest", "allocationMode:DeviceAllocationMode"),
    ("DeviceTaint", "effect:DeviceTaintEffect"),
    ("DeviceToleration", "operator:DeviceTolerationOperator effect:DeviceTaintEffect"),
    ("ExactDeviceRequest", "allocationMode:DeviceAllocationMode"),
    // apiextensions and apiregistration
    ("APIServiceCondition", "type:APIServiceConditionType status:ConditionStatus"),
    ("CustomResourceConversion", "strategy:ConversionStrategyType"),
    ("CustomResourceDefinitionSpec", "scope:ResourceScope"),
    ("JSONSchemaProps", "enum:JSON default:JSON example:JSON"),
    ("ValidationRule", "reason:FieldValueErrorReason"),
];

const CONTAINER: &str = "imagePullPolicy:PullPolicy terminationMessagePolicy:TerminationMessagePolicy \
                         restartPolicy:ContainerRestartPolicy";
const WEBHOOK: &str = "failurePolicy:FailurePolicyType matchPolicy:MatchPolicyType sideEffects:SideEffectClass \
                       reinvocationPolicy:ReinvocationPolicyType";

/// How Go names the type of that field's value, or of the items of its list; `map.Key` for the key of its map.
pub(super) fn named(type_name: &str, field: &str) -> Option<String> {
    let mut parts = type_name.rsplit('.');
    let (short, version) = (parts.next()?, parts.next()?);
    // The subject of flow control has a type where that of RBAC has a text.
    let fields = match short {
        "Subject" if type_name.contains(".flowcontrol.") => "kind:SubjectKind",
        _ => NAMED.iter().find(|(name, _)| *name == short)?.1,
    };
    let name = fields.split(' ').find_map(|entry| entry.strip_prefix(field)?.strip_prefix(':'))?;
    Some(if name.contains('.') { name.to_owned() } else { format!("{version}.{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_package() {
        for (holder, field, name) in [
            ("io.k8s.api.core.v1.PodSpec", "dnsPolicy", Some("v1.DNSPolicy")),
            ("io.k8s.api.core.v1.PodSpec", "hostname", None),
            ("io.k8s.api.autoscaling.v2.MetricSpec", "type", Some("v2.MetricSourceType")),
            ("io.k8s.api.autoscaling.v2.ResourceMetricSource", "name", Some("v1.ResourceName")),
            ("io.k8s.api.rbac.v1.Subject", "kind", None),
            ("io.k8s.api.flowcontrol.v1.Subject", "kind", Some("v1.SubjectKind")),
        ] {
            assert_eq!(named(holder, field).as_deref(), name, "{holder}.{field}");
        }
    }
}
