//! Weightings that look at the tasks' gradients.

pub mod preference;
mod rows;
mod shares;
mod surgery;

crate::members!(
    crate::weighting::Weighting:
    aligned_mtl::AlignedMtl,
    cagrad::CaGrad,
    config::ConFig,
    dualproj::DualProj,
    fairgrad::FairGrad,
    imtl::Imtl,
    imtl_g::ImtlG,
    mgda::Mgda,
    nash_mtl::NashMtl,
    pivrg::Pivrg,
    upgrad::UpGrad,
    cr_mogm::CrMogm,
    db_mtl::DbMtl,
    excess_mtl::ExcessMtl,
    graddrop::GradDrop,
    gradnorm::GradNorm,
    gradvac::GradVac,
    krum::Krum,
    moco::MoCo,
    modo::MoDo,
    pcd::Pcd,
    pcgrad::PcGrad,
    sdmgrad::SdmGrad,
    trimmed_mean::TrimmedMean,
);

#[cfg(test)]
mod bounds;
#[cfg(test)]
pub(crate) mod checks;
#[cfg(test)]
mod trial;
